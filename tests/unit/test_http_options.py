"""Tests of HTTP on the command line: from options to the request that is sent, and from an answer to the output."""

from __future__ import annotations

import http.client
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from pipe_init.cli.function.checks import MAX_ASKED
from pipe_init.cli.function.describe import describe_function
from pipe_init.cli.function.http_request import http_metadata, parse_header, parse_request
from pipe_init.cli.options.run_options import RunOptions
from pipe_init.cli.options.usage_errors import UsageError
from pipe_init.cli.results.http_response import response_head, response_pieces
from pipe_init.cli.results.run_exit_code import exit_code, response_status
from pipe_init.cli.run import options_of, run
from pipe_init.cli.runs.event_input import read_event
from pipe_init.kernel.signals import Signals
from pipe_init.model import Outcome
from pipe_runtime.wire.connection import INIT, Connection
from pipe_runtime.wire.messages import BYTES, HELLO, INVOKE, VERSION
from pipe_testing.supervision import installed_signals


def given(*arguments: str) -> RunOptions:
    return options_of(run.make_context("run", ["index.handler", *arguments]))


def response_object(http: dict[str, Any], body: bytes) -> Any:
    """Return the JSON object that the pieces form. They must be one line."""
    line = b"".join(response_pieces(http, body))
    assert len(line.decode().splitlines()) == 1
    return json.loads(line)


def refusal(call: Callable[..., object], *arguments: object) -> str:
    """Return the error that the call raises, as text."""
    with pytest.raises(UsageError) as caught:
        call(*arguments)
    return str(caught.value)


class TestRequest:
    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("GET /", ("GET", "/", "")),
            ("POST /path?q=1", ("POST", "/path", "q=1")),
            ("/path?q=1&q=2?", ("", "/path", "q=1&q=2?")),
            ("/path?", ("", "/path", "")),
            ("M-SEARCH *", ("M-SEARCH", "*", "")),
            ("*", ("", "*", "")),
            ("OPTIONS   /x", ("OPTIONS", "/x", "")),
            ("GET //a/../%2e%2E/%zz", ("GET", "//a/../%2e%2E/%zz", "")),
            ("GET /ä?ö=€", ("GET", "/%C3%A4", "%C3%B6=%E2%82%AC")),
            ("GET /\udcff", ("GET", "/%FF", "")),
            ('GET /"<>[]{}|\\^`', ("GET", '/"<>[]{}|\\^`', "")),
        ],
    )
    def test_what_it_says(self, text: str, parts: tuple[str, str, str]) -> None:
        assert parse_request(text) == parts

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "the target is a path"),
            ("GET", "the target is a path"),
            ("GET ", "the target is a path"),
            ("GET path", "the target is a path"),
            ("GET ?q=1", "the target is a path"),
            ("GET http://localhost/", "the target is a path"),
            ("GET *x", "the target is a path"),
            ("get /", "'get' is no method, an upper-case word such as POST."),
            (" GET /", "'' is no method"),
            ("GE:T /", "'GE:T' is no method"),
            ("ÄT /", "'ÄT' is no method"),
            ("GET\t/", "the target is a path"),
            ("GET\n /", "'GET\\n' is no method"),
            ("GET /a b", "no blanks or control characters in the target; a blank is %20."),
            ("/a b", "no blanks or control characters"),
            ("GET / HTTP/1.1", "no blanks or control characters"),
            ("GET /\r\nX-A: 1", "no blanks or control characters"),
            ("GET /\x7f", "no blanks or control characters"),
            ("GET /\0", "no blanks or control characters"),
            ("GET /#part", "a fragment is not sent; the character # itself is %23."),
        ],
    )
    def test_what_is_none(self, text: str, says: str) -> None:
        message = refusal(parse_request, text)
        assert message.startswith(f"--request: {text!r}: ") and says in message

    @for_all(st.binary().map(os.fsdecode), st.sampled_from(["", "/", "GET /", "PUT  /a?"]))
    def test_whatever_is_taken_is_ascii_without_blanks(self, text: str, before: str) -> None:
        text = before + text
        try:
            method, path, query = parse_request(text)
        except UsageError:
            return
        assert path.startswith("/") or path == "*"
        assert all(0x20 < ord(character) < 0x7F and character != "#" for character in method + path + query)
        assert "?" not in path and method == method.upper()


class TestHeader:
    @pytest.mark.parametrize(
        ("text", "pair"),
        [
            ("Name: value", ["Name", "value"]),
            ("name:value", ["name", "value"]),
            ("X-A:  a : b\t ", ["X-A", "a : b"]),
            ("X-A:", ["X-A", ""]),
            ("X-A:a\tb", ["X-A", "a\tb"]),
            ("X-A: ü", ["X-A", "Ã¼"]),
            ("X-A: €", ["X-A", "â\x82¬"]),
            ("X-A: \udcfc", ["X-A", "ü"]),
        ],
    )
    def test_what_it_says(self, text: str, pair: list[str]) -> None:
        assert parse_header(text) == pair

    @pytest.mark.parametrize("text", ["", "Name", ": value", "Na me: x", "Name : x", "Nä: x", "A\r\nB: x", "\0: x"])
    def test_what_is_none(self, text: str) -> None:
        assert refusal(parse_header, text) == f"--header: {text!r} is not 'Name: value'."

    @pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\r\nX-B: 1", "a\n"])
    def test_values_that_would_be_more(self, value: str) -> None:
        assert refusal(parse_header, f"X-A: {value}") == "--header: the value of X-A has a line break or a NUL in it."


class TestMetadata:
    def test_all_of_it(self) -> None:
        options = given("--request", "PUT /a/b?c=d", "-H", "X-A: 1", "-H", "x-a: 2", "-e", "body")
        assert http_metadata(options, 4) == {
            "method": "PUT",
            "path": "/a/b",
            "query": "c=d",
            "headers": [["Host", "localhost"], ["X-A", "1"], ["x-a", "2"], ["Content-Length", "4"]],
            "scheme": "http",
            "host": "localhost",
            "port": 80,
            "client": ["127.0.0.1", 0],
            "version": "1.1",
        }

    @pytest.mark.parametrize(
        ("arguments", "method", "path"),
        [
            (("--request", "/x"), "GET", "/x"),
            (("--request", "/x", "-e", ""), "POST", "/x"),
            (("--request", "/x", "-f", "-"), "POST", "/x"),
            (("--request", "/x", "--events", "-"), "POST", "/x"),
            (("--request", "DELETE /x", "-e", "x"), "DELETE", "/x"),
            (("-H", "X-A: 1"), "GET", "/"),
            (("-H", "X-A: 1", "-e", "x"), "POST", "/"),
            (("--type", "wsgi"), "GET", "/"),
            (("--type", "asgi", "-e", "x"), "POST", "/"),
        ],
    )
    def test_what_is_left_out(self, arguments: tuple[str, ...], method: str, path: str) -> None:
        http = http_metadata(given(*arguments), 0)
        assert (http["method"], http["path"], http["query"]) == (method, path, "")

    @pytest.mark.parametrize(
        ("method", "size", "header", "lengths"),
        [
            ("GET", 0, "", []),
            ("GET", 3, "", ["3"]),
            ("GET", None, "", []),
            ("POST", 0, "", ["0"]),
            ("POST", None, "", []),
            ("POST", 10**9, "", ["1000000000"]),
            ("POST", 3, "content-length: 7", ["7"]),
            ("POST", 3, "Transfer-Encoding: chunked", []),
        ],
    )
    def test_content_length(self, method: str, size: int | None, header: str, lengths: list[str]) -> None:
        options = given("--request", f"{method} /", *(["-H", header] if header else []))
        headers = http_metadata(options, size)["headers"]
        assert [value for name, value in headers if name.lower() == "content-length"] == lengths

    def test_a_host_that_is_given(self) -> None:
        http = http_metadata(given("-H", "X-A: 1", "-H", "host: example.org:8080"), 0)
        assert http["headers"] == [["X-A", "1"], ["host", "example.org:8080"]]
        assert (http["host"], http["port"]) == ("localhost", 80)

    def test_the_protocol_takes_it(self) -> None:
        options = given("--request", "POST /ä", "-H", "X-A: \udcff")
        connection = Connection(INIT)
        connection.send(HELLO, metadata={"versions": [VERSION]})
        fixed = {"request_id": "r", "content_type": BYTES, "accept": "*/*"}
        assert connection.send(INVOKE, 1, {**fixed, "http": http_metadata(options, 1)}, b"x")


class TestOptions:
    @pytest.mark.parametrize(
        ("arguments", "is_http"),
        [
            ((), False),
            (("--type", "event"), False),
            (("--type", "wsgi"), True),
            (("--type", "asgi"), True),
            (("--request", "/"), True),
            (("-H", "A: 1"), True),
            (("--raw", "-e", "x"), False),
        ],
    )
    def test_what_is_http(self, arguments: tuple[str, ...], is_http: bool) -> None:
        assert given(*arguments).is_http is is_http

    @pytest.mark.parametrize("more", [("--request", "/"), ("-H", "A: 1"), ("-i",)])
    def test_no_http_for_type_event(self, more: tuple[str, ...]) -> None:
        says = refusal(describe_function, given("--type", "event", *more))
        assert says == "--request, --header and --include are for HTTP: not with --type event."

    @pytest.mark.parametrize("more", [(), ("-e", "1"), ("--events", "-")])
    def test_include_needs_http(self, more: tuple[str, ...]) -> None:
        says = refusal(describe_function, given("-i", *more))
        assert says == "--include is for HTTP: it needs --request, --header or --type wsgi or asgi."

    @pytest.mark.parametrize("more", [("--request", "/"), ("-H", "A: 1"), ("--type", "wsgi")])
    def test_include_with_http(self, more: tuple[str, ...]) -> None:
        assert describe_function(given("-i", *more))

    @pytest.mark.parametrize("more", [("--request", "get /"), ("-H", "A")])
    def test_what_is_wrong_is_said_before_anything_runs(self, more: tuple[str, ...]) -> None:
        assert more[1] in refusal(describe_function, given(*more))

    @pytest.mark.parametrize("option", ["--request", "--header"])
    def test_what_does_not_fit_into_a_head(self, option: str) -> None:
        text = {"--request": "/{}", "--header": "A: {}"}[option]
        room = MAX_ASKED - 300
        assert describe_function(given(option, text.format("x" * room)))
        says = refusal(describe_function, given(option, text.format("x" * (room + 300))))
        assert says.startswith("--request, --header and --context make ")
        assert says.endswith(f" bytes together; the limit is {MAX_ASKED}.")

    def test_they_are_no_part_of_hello_nor_of_every_request(self) -> None:
        function = describe_function(given("--request", "/", "-H", "A: 1", "-i", "--platform", "none"))
        assert set(function.hello) == {"handler", "code_dir", "environment", "function"}
        assert dict(function.metadata) == {}


class TestBody:
    @pytest.fixture
    def signals(self) -> Iterator[Signals]:
        with installed_signals() as signals:
            yield signals

    @pytest.mark.parametrize("http", [("--request", "/"), ("-H", "A: 1"), ("--type", "wsgi"), ("--type", "asgi")])
    @pytest.mark.parametrize("text", [None, "", "{no JSON", "\udcff\udc80"])
    def test_the_event_as_it_is(self, signals: Signals, http: tuple[str, ...], text: str | None) -> None:
        event = () if text is None else ("-e", text)
        assert read_event(given(*http, *event), signals) == os.fsencode(text or "")

    def test_a_file_as_it_is(self, signals: Signals, tmp_path: Path) -> None:
        (tmp_path / "body").write_bytes(b"\xff\x00{")
        assert read_event(given("--request", "/", "-f", str(tmp_path / "body")), signals) == b"\xff\x00{"

    def test_an_event_of_another_kind_is_json(self, signals: Signals) -> None:
        assert read_event(given(), signals) == b"{}"
        assert "is not JSON" in refusal(read_event, given("--type", "event", "-e", "{no JSON"), signals)


@pytest.mark.parametrize(
    ("http", "status"),
    [
        ({"status": 200}, 200),
        ({"status": 599}, 599),
        ({"status": 999}, 999),
        ({}, 500),
        ({"status": 99}, 500),
        ({"status": 1000}, 500),
        ({"status": True}, 500),
        ({"status": 200.0}, 500),
        ({"status": "200"}, 500),
        ({"status": None}, 500),
    ],
)
def test_status(http: dict[str, Any], status: int) -> None:
    assert response_status(http) == status


@pytest.mark.parametrize(("status", "code"), [(200, 0), (404, 0), (499, 0), (500, 1), (599, 1)])
def test_a_status_of_500_or_more_is_a_failure(status: int, code: int) -> None:
    assert exit_code(Outcome("r-1", http={"status": status})) == code
    assert exit_code(Outcome("r-1", http={"status": status}, exit_code=137)) == 137


class TestHead:
    @pytest.mark.parametrize(
        ("http", "head"),
        [
            ({"status": 200}, b"HTTP/1.1 200 OK\r\n\r\n"),
            ({"status": 404, "reason": ""}, b"HTTP/1.1 404 Not Found\r\n\r\n"),
            ({"status": 299}, b"HTTP/1.1 299 \r\n\r\n"),
            ({"status": 200, "reason": "Fine, thanks"}, b"HTTP/1.1 200 Fine, thanks\r\n\r\n"),
            (
                {"status": 200, "headers": [["A", "1"], ["b", ""], ["A", "\xfc\t2"]]},
                b"HTTP/1.1 200 OK\r\nA: 1\r\nb: \r\nA: \xfc\t2\r\n\r\n",
            ),
            ({"status": 200, "reason": "O\r\nX: y"}, b"HTTP/1.1 200 O\\x0d\\x0aX: y\r\n\r\n"),
            ({"status": 200, "reason": 7, "headers": "A: 1"}, b"HTTP/1.1 200 OK\r\n\r\n"),
            (
                {"status": 200, "headers": [["A: 1\r\nB", "\x1b[2J\0\x7f"], ["Ä€", "€"]]},
                b"HTTP/1.1 200 OK\r\nA\\x3a\\x201\\x0d\\x0aB: \\x1b[2J\\x00\\x7f\r\n\\xc4\\u20ac: \\u20ac\r\n\r\n",
            ),
            (
                {"status": 200, "headers": ["A", [], ["A"], ["A", 1], [None, "1"], ["", "1"], ["A", "1", "2"], 3]},
                b"HTTP/1.1 200 OK\r\n\r\n",
            ),
        ],
    )
    def test_text(self, http: dict[str, Any], head: bytes) -> None:
        assert response_head(http) == head

    @for_all(
        st.integers(0, 1100),
        st.text(),
        st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), max_size=5),
    )
    def test_no_header_forges_a_line(self, status: int, reason: str, headers: list[list[str]]) -> None:
        head = response_head({"status": status, "reason": reason, "headers": headers})
        named = sum(bool(name) for name, _ in headers)
        assert head.count(b"\r") == head.count(b"\n") == head.count(b"\r\n") == named + 2
        assert head.endswith(b"\r\n\r\n")
        parsed = http.client.parse_headers(io.BytesIO(head.split(b"\r\n", 1)[1]))
        assert len(parsed) == named


class TestObject:
    def test_text(self) -> None:
        http = {"status": 201, "headers": [["Content-Type", "text/plain"], ["X-A", "1"]]}
        assert response_object(http, "ü\n".encode()) == {
            "statusCode": 201,
            "headers": {"Content-Type": "text/plain", "X-A": "1"},
            "body": "ü\n",
            "isBase64Encoded": False,
        }

    def test_bytes(self) -> None:
        assert response_object({"status": 200}, b"\xff\x00") == {
            "statusCode": 200,
            "headers": {},
            "body": "/wA=",
            "isBase64Encoded": True,
        }

    def test_long_bytes_are_one_line(self) -> None:
        assert "\n" not in response_object({"status": 200}, b"\xff" * 1000)["body"]

    def test_repeated_names(self) -> None:
        headers = [["Set-Cookie", "a=1"], ["X-A", "1"], ["set-cookie", "b=2, c"]]
        answer = response_object({"status": 200, "headers": headers}, b"")
        assert answer["headers"] == {"Set-Cookie": "a=1, b=2, c", "X-A": "1"}
        assert answer["multiValueHeaders"] == {"Set-Cookie": ["a=1", "b=2, c"]}

    def test_nonsense(self) -> None:
        answer = response_object({"status": "x", "headers": {"A": "1"}}, b"")
        assert answer == {"statusCode": 500, "headers": {}, "body": "", "isBase64Encoded": False}

    @for_all(st.binary(), st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), max_size=5))
    def test_it_is_one_line_of_json(self, body: bytes, headers: list[list[str]]) -> None:
        answer = response_object({"status": 200, "headers": headers}, body)
        line = json.dumps(answer, ensure_ascii=False)
        assert "\n" not in line and json.loads(line) == answer
