"""Tests of WSGI without HTTP: what an application finds in environ, and what becomes of every kind of answer.

The exchange is an object in memory that notes each call in order. Echo applications run inside wsgiref's validator,
which raises if either side breaks PEP 3333.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from pipe_runtime.adapters import wsgi
from pipe_runtime.call import exchange
from pipe_runtime.wire.errors import Fault
from pipe_runtime.wire.messages import CHUNK, CREDIT, END

Call = tuple[Any, ...]
CONTEXT = object()
TEXT = [("Content-Type", "text/plain")]


class Line:
    """The line of a request of which everything has come: no credit has to be given, and nothing is waited for."""

    cancels = True

    def post(self, kind: int, *_: Any) -> None:
        assert kind == CREDIT

    def credit(self, id: int) -> int:
        raise AssertionError("the tests note what is written")

    def look(self) -> None:
        """Do nothing: nothing will come."""

    def wait(self, *_: Any) -> None:
        raise AssertionError("nothing will come")

    def tell(self, exchange: Any) -> None:
        """Do nothing: nothing waits."""


class Exchange(exchange.Exchange):
    """A request that has come whole, and the calls of the adapter.

    Attributes:
        calls: The calls of the adapter, in order.
        refuse: The name of the call that raises BrokenPipeError.
    """

    def __init__(
        self, http: dict[str, Any] | None = None, body: bytes | list[bytes] = b"", refuse: str = "", **request: Any
    ) -> None:
        fields = {"request_id": "r-1", "content_type": "application/json", "accept": "*/*", **request}
        if http is not None:
            fields["http"] = http
        if isinstance(body, list):
            fields["stream"] = True
        super().__init__(1, fields, b"" if isinstance(body, list) else body, Line())
        for piece in body if isinstance(body, list) else ():
            self.hear(CHUNK, piece)
        self.hear(END, b"")
        self.context: Any = CONTEXT
        self.calls: list[Call] = []
        self.refuse = refuse

    def respond(self, body: bytes, content_type: str, http: dict[str, Any] | None) -> None:
        self._note("respond", body, content_type, http)

    def begin(self, content_type: str, http: dict[str, Any] | None) -> None:
        self._note("begin", content_type, http)

    async def write(self, data: bytes) -> None:
        self._note("write", data)

    def _note(self, *call: Any) -> None:
        if call[0] == self.refuse:
            raise BrokenPipeError("nobody takes it")
        first = call[0] in ("respond", "begin")
        assert first == (not self.calls), f"{call} after {self.calls}"
        self.calls.append(call)

    @property
    def answer(self) -> bytes:
        """Return the whole body of the answer, however many pieces it had."""
        return b"".join(call[1] for call in self.calls if call[0] != "begin")

    @property
    def http(self) -> dict[str, Any]:
        http: dict[str, Any] = self.calls[0][-1]
        return http


def serve(app: Callable[..., Any], exchange: Exchange | None = None, multithread: bool = False) -> Exchange:
    exchange = exchange or Exchange({})
    wsgi.serve(app, exchange, multithread)
    return exchange


def environ_of(exchange: Exchange, multithread: bool = False) -> dict[str, Any]:
    """Return the environ that an application gets."""
    found: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found.append(environ)
        start_response("204 No Content", [])
        return []

    serve(app, exchange, multithread)
    return found[0]


def headers(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"headers": [list(pair) for pair in pairs]}


def answering(result: Any, status: str = "200 OK", given: Any = None) -> Callable[..., Any]:
    """Return an application that gives this answer, with `given` as its headers (by default TEXT)."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, list(TEXT) if given is None else given)
        return result

    return app


class Closing:
    """An iterable that notes whether it was closed. It raises `error` after its blocks."""

    def __init__(self, blocks: Iterable[Any], error: BaseException | None = None) -> None:
        self.blocks = blocks
        self.error = error
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        yield from self.blocks
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed += 1


# environ


def test_environ_is_complete() -> None:
    http = {
        "method": "PUT",
        "path": "/a%20b/%C3%BC",
        "query": "q=1&r=%20",
        "headers": [["Host", "example.org:8080"], ["Content-Type", "text/plain"], ["Accept", "a/b"]],
        "scheme": "https",
        "host": "example.org",
        "port": 8080,
        "client": ["192.0.2.7", 40000],
        "version": "1.0",
    }
    environ = environ_of(Exchange(http, b"body"))
    stream = environ.pop("wsgi.input")
    assert stream.read() == b"body"
    assert environ == {
        "REQUEST_METHOD": "PUT",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b/\u00c3\u00bc",
        "QUERY_STRING": "q=1&r=%20",
        "REQUEST_URI": "/a%20b/%C3%BC?q=1&r=%20",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "4",
        "SERVER_NAME": "example.org",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.0",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "40000",
        "HTTP_HOST": "example.org:8080",
        "HTTP_ACCEPT": "a/b",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "fc.context": CONTEXT,
        "fc.request_uri": "/a%20b/%C3%BC?q=1&r=%20",
    }
    assert type(environ) is dict


def test_environ_of_an_empty_http_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://evil")
    environ = environ_of(Exchange({}))
    for name in ("wsgi.input", "wsgi.errors"):
        del environ[name]
    assert {name: value for name, value in environ.items() if name.isupper()} == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "REQUEST_URI": "/",
        "CONTENT_LENGTH": "0",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }


def test_environ_is_new_for_each_request() -> None:
    exchange = Exchange({"path": "/"})
    environ_of(exchange)["leak"] = 1
    assert "leak" not in environ_of(Exchange({"path": "/"}))


@pytest.mark.parametrize("multithread", [True, False])
def test_multithread_is_what_it_is(multithread: bool) -> None:
    assert environ_of(Exchange({}), multithread)["wsgi.multithread"] is multithread


def test_https_has_its_own_default_port() -> None:
    assert environ_of(Exchange({"scheme": "https"}))["SERVER_PORT"] == "443"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", "/"),
        ("/", "/"),
        ("/%2F%41", "//A"),
        ("/100%", "/100%"),
        ("/%zz%4", "/%zz%4"),
        ("/%+1% 1%1_", "/%+1% 1%1_"),
        ("/%25 41", "/% 41"),
        ("/%2541", "/%41"),
        ("/%ff%00", "/\xff\x00"),
        ("/\xfc", "/\xfc"),
        ("/\u20ac", "/\xe2\x82\xac"),
        ("*", "/*"),
        ("/a+b;c", "/a+b;c"),
    ],
)
def test_path_is_decoded_to_bytes_as_latin_1(path: str, found: str) -> None:
    assert environ_of(Exchange({"path": path}))["PATH_INFO"] == found


def test_request_uri_is_what_came() -> None:
    assert environ_of(Exchange({"path": "/%41", "query": ""}))["fc.request_uri"] == "/%41"
    assert environ_of(Exchange({"path": "/%41", "query": "%42"}))["fc.request_uri"] == "/%41?%42"


def test_repeated_headers_are_joined() -> None:
    http = headers(("X-A", "1"), ("Cookie", "a=b"), ("x-a", "2"), ("cookie", "c=d"))
    environ = environ_of(Exchange(http))
    assert environ["HTTP_X_A"] == "1,2"
    assert environ["HTTP_COOKIE"] == "a=b; c=d"


def test_headers_that_could_pass_for_others_are_dropped() -> None:
    http = headers(("X_User", "root"), ("X-User", "me"), ("Content_Length", "9"), ("\xff", "1"), ("\xdf", "1"))
    environ = environ_of(Exchange(http))
    assert environ["HTTP_X_USER"] == "me"
    assert [name for name in environ if name.startswith("HTTP_")] == ["HTTP_X_USER"]


def test_content_headers_have_no_prefix() -> None:
    http = headers(("content-type", "a/b"), ("CONTENT-LENGTH", "3"), ("Content-Type", "c/d"))
    environ = environ_of(Exchange(http, b"abc"))
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("a/b", "3")
    assert "HTTP_CONTENT_TYPE" not in environ and "HTTP_CONTENT_LENGTH" not in environ


def test_length_of_a_whole_body_is_its_own() -> None:
    assert environ_of(Exchange(headers(("Content-Length", "99")), b"abc"))["CONTENT_LENGTH"] == "3"


def test_length_of_a_streamed_body_is_the_header() -> None:
    http = headers(("Content-Length", "99"), ("Content-Length", "5"))
    assert environ_of(Exchange(http, [b"abc"]))["CONTENT_LENGTH"] == "99"
    for value in ("-1", "1_0", "\xb2", "", "3, 3"):
        assert "CONTENT_LENGTH" not in environ_of(Exchange(headers(("Content-Length", value)), [b"abc"]))
    assert "CONTENT_LENGTH" not in environ_of(Exchange({}, [b"abc"]))


@pytest.mark.parametrize("body", [b"", b"{}", [], [b"{}"], [b"{", b"}"]])
def test_without_http_an_empty_event_is_get(body: bytes | list[bytes]) -> None:
    environ = environ_of(Exchange(None, body))
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("GET", "/")
    assert "CONTENT_TYPE" not in environ
    assert environ["wsgi.input"].read() == b""


@pytest.mark.parametrize("body", [b'{"a": 1}', b"{} ", [b"{", b"} "], [b"a", b"bc"]])
def test_without_http_an_event_is_posted(body: bytes | list[bytes]) -> None:
    environ = environ_of(Exchange(None, body))
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("POST", "/")
    assert environ["CONTENT_TYPE"] == "application/json"
    assert environ["wsgi.input"].read() == (b"".join(body) if isinstance(body, list) else body)


def test_with_http_two_braces_are_a_body() -> None:
    assert environ_of(Exchange({}, b"{}"))["wsgi.input"].read() == b"{}"


@pytest.mark.parametrize(
    "http",
    [
        {"path": 5},
        {"method": b"GET"},
        {"query": None},
        {"headers": [["a"]]},
        {"headers": [[1, 2]]},
        {"headers": [["a", 2]]},
        {"headers": 5},
        {"client": ["one"]},
        {"client": [1, 2]},
    ],
)
def test_broken_http_map_is_an_unmarshal_error(http: dict[str, Any]) -> None:
    with pytest.raises(Fault) as caught:
        serve(answering([b""]), Exchange(http))
    assert caught.value.error_type == "Runtime.UnmarshalError"
    assert str(caught.value).startswith("Unable to unmarshal input: the http map: ")


def test_streamed_body_is_read_as_it_arrives() -> None:
    exchange = Exchange({"method": "POST"}, [b"one\nt", b"wo\nthree", b"\nfour"])
    left: list[int] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        stream = environ["wsgi.input"]
        line = stream.readline()
        left.append(len(exchange._pieces))
        start_response("200 OK", list(TEXT))
        return [b"|".join([line, stream.read(2), *stream])]

    assert serve(app, exchange).answer == b"one\n|tw|o\n|three\n|four"
    assert left == [2]


# the answer


def test_list_of_one_block_is_one_answer() -> None:
    exchange = serve(answering([b"hello"], "404 Not Found", [("content-type", "a/b"), ("X-A", "1"), ("X-A", "2")]))
    http = {"status": 404, "reason": "Not Found", "headers": [["content-type", "a/b"], ["X-A", "1"], ["X-A", "2"]]}
    assert exchange.calls == [("respond", b"hello", "a/b", http)]


def test_answer_without_content_type() -> None:
    for result in [b"a"], [b"a", b"b"]:
        exchange = serve(answering(result, given=[]))
        assert exchange.calls[0][-2] == "application/octet-stream"
        assert exchange.http["headers"] == []


@pytest.mark.parametrize("result", [[], (), [b""], [b"", b""], iter([])])
def test_empty_answer_is_whole(result: Any) -> None:
    assert [call[:2] for call in serve(answering(result)).calls] == [("respond", b"")]


def test_blocks_are_given_out_one_by_one_as_they_come() -> None:
    exchange = Exchange({})
    seen: list[list[str]] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", list(TEXT))
        for block in (b"", b"a", b"", b"b"):
            yield block
            seen.append([call[0] for call in exchange.calls])

    serve(app, exchange)
    assert seen == [[], ["begin", "write"], ["begin", "write"], ["begin", "write", "write"]]
    assert exchange.answer == b"ab"


def test_declared_length_makes_an_answer_whole() -> None:
    exchange = serve(answering(Closing([b"hello", b""]), given=[("Content-Length", "5")]))
    assert [call[:2] for call in exchange.calls] == [("respond", b"hello")]


def test_not_more_than_the_declared_length_goes_out() -> None:
    asked: list[int] = []

    def blocks() -> Iterator[bytes]:
        for number in range(9):
            asked.append(number)
            yield b"abc"

    result = Closing(blocks())
    exchange = serve(answering(result, given=[("Content-Length", "5")]))
    assert [call[0] for call in exchange.calls] == ["begin", "write", "write"]
    assert exchange.answer == b"abcab"
    assert asked == [0, 1] and result.closed == 1
    assert serve(answering([b"abcdef"], given=[("Content-Length", "5")])).answer == b"abcde"


def test_code_behind_the_last_yield_runs() -> None:
    ran: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        yield b"ab"
        ran.append("end")

    assert serve(app).answer == b"ab"
    assert ran == ["end"]


@pytest.mark.parametrize("result", [[b"abc"], [], [b"", b""]])
def test_short_body_is_an_error_before_anything_is_sent(result: list[bytes]) -> None:
    exchange = Exchange({})
    with pytest.raises(Fault, match="short of its Content-Length: 5") as caught:
        serve(answering(result, given=[("Content-Length", "5")]), exchange)
    assert caught.value.error_type == "Runtime.MarshalError"
    assert exchange.calls == []


def test_short_streamed_body_is_an_error() -> None:
    exchange = Exchange({})
    with pytest.raises(Fault, match="is 2 bytes short of its Content-Length: 5"):
        serve(answering([b"ab", b"c"], given=[("Content-Length", "5")]), exchange)
    assert exchange.answer == b"abc"


def test_head_has_no_body_and_keeps_its_headers() -> None:
    for result in [b"hello"], [b"he", b"llo"], []:
        exchange = serve(answering(result, given=[("Content-Length", "5")]), Exchange({"method": "HEAD"}))
        assert [call[:2] for call in exchange.calls] == [("respond", b"")]
        assert exchange.http["headers"] == [["Content-Length", "5"]]


def test_head_does_not_wait_for_an_endless_body() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"tick"

    result = Closing(endless())
    assert serve(answering(result), Exchange({"method": "HEAD"})).answer == b""
    assert result.closed == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "102 Processing"])
def test_status_without_a_body(status: str) -> None:
    assert serve(answering([b"a", b"b"], status)).answer == b""


def test_write_gives_out_at_once_and_before_the_iterable() -> None:
    exchange = Exchange({})
    seen: list[int] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", list(TEXT))
        for data in (b"", b"one", b"two"):
            assert write(data) is None
            seen.append(len(exchange.calls))
        return [b"three"]

    serve(app, exchange)
    assert seen == [0, 2, 3]
    assert exchange.calls[0][0] == "begin"
    assert [call[1] for call in exchange.calls[1:]] == [b"one", b"two", b"three"]


def test_write_past_the_declared_length_raises() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "3")])
        write(b"ab")
        with pytest.raises(ValueError, match="more bytes than Content-Length: 3"):
            write(b"cd")
        return []

    assert serve(app).answer == b"abc"


def test_write_to_head_is_dropped() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "4")])
        write(b"ab")
        write(b"cd")
        return []

    assert serve(app, Exchange({"method": "HEAD"})).answer == b""


def test_write_takes_bytes_only() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", list(TEXT))
        with pytest.raises(TypeError, match="write\\(\\) takes bytes, not str"):
            write("text")
        return [b"fine"]

    assert serve(app).answer == b"fine"


def test_nothing_works_after_the_end() -> None:
    kept: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        kept.extend((start_response, start_response("200 OK", list(TEXT))))
        return [b"a"]

    exchange = serve(app)
    start_response, write = kept
    with pytest.raises(RuntimeError, match="after the request's end"):
        write(b"late")
    with pytest.raises(RuntimeError, match="after the request's end"):
        start_response("200 OK", [])
    assert exchange.answer == b"a"


def test_start_response_may_come_with_the_first_block() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield b""
        start_response("201 Created", list(TEXT))
        yield b"made"

    exchange = serve(app)
    assert (exchange.http["status"], exchange.answer) == (201, b"made")


@pytest.mark.parametrize("result", [[b"a"], [], [b"a", b"b"]])
def test_start_response_not_called(result: list[bytes]) -> None:
    exchange = Exchange({})
    with pytest.raises(Fault, match="did not call start_response") as caught:
        serve(lambda environ, start_response: result, exchange)
    assert caught.value.error_type == "Runtime.MarshalError"
    assert exchange.calls == []


def test_start_response_twice() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", list(TEXT))
        for more in (), (None,), ((None, None, None),):
            with pytest.raises(RuntimeError, match="again without exc_info"):
                start_response("500 No", [], *more)
        return [b"a"]

    assert serve(app).http["status"] == 200


def test_exc_info_replaces_what_was_not_sent() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "99")])
        try:
            raise KeyError("broken")
        except KeyError:
            start_response("500 Oops", list(TEXT), sys.exc_info())
        return [b"sorry"]

    exchange = serve(app)
    assert exchange.http == {"status": 500, "reason": "Oops", "headers": [["Content-Type", "text/plain"]]}
    assert exchange.answer == b"sorry"


def test_exc_info_after_the_headers_raises_it_again() -> None:
    error = KeyError("broken")
    result: list[Closing] = []

    def fail() -> None:
        raise error

    def app(environ: Any, start_response: Any) -> Closing:
        def blocks() -> Iterator[bytes]:
            start_response("200 OK", list(TEXT))
            yield b"begun"
            try:
                fail()
            except KeyError:
                start_response("500 Oops", list(TEXT), sys.exc_info())
                yield b"never"

        result.append(Closing(blocks()))
        return result[0]

    exchange = Exchange({})
    with pytest.raises(KeyError) as caught:
        serve(app, exchange)
    assert caught.value is error
    assert "fail" in [entry.name for entry in caught.traceback]
    assert exchange.answer == b"begun"
    assert result[0].closed == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("200", ValueError),
        ("200OK", ValueError),
        ("2x0 OK", ValueError),
        ("\xb2\xb2\xb2 OK", ValueError),
        ("099 Low", ValueError),
        ("", ValueError),
        ("200 OK\r\nX: y", ValueError),
        ("200 \u20ac", ValueError),
        (200, TypeError),
        (b"200 OK", TypeError),
    ],
)
def test_wrong_status(status: Any, error: type[Exception]) -> None:
    exchange = Exchange({})
    with pytest.raises(error, match="status"):
        serve(answering([b""], status), exchange)
    assert exchange.calls == []


def test_reason_may_be_empty_or_long() -> None:
    assert serve(answering([], "299 ")).http["reason"] == ""
    assert serve(answering([], "200 All is  well \xfc")).http["reason"] == "All is  well \xfc"


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ((("A", "b"),), TypeError, "headers must be a list, not tuple"),
        ({"A": "b"}, TypeError, "headers must be a list, not dict"),
        ([["A", "b"]], TypeError, "must be a tuple"),
        ([("A", "b", "c")], TypeError, "must be a tuple"),
        ([(b"A", "b")], TypeError, "name must be a str, not bytes"),
        ([("A", 1)], TypeError, "value of A must be a str, not int"),
        ([("", "b")], ValueError, "not a valid header name"),
        ([("A:", "b")], ValueError, "not a valid header name"),
        ([("A b", "b")], ValueError, "not a valid header name"),
        ([("\xfc", "b")], ValueError, "not a valid header name"),
        ([("A\n", "b")], ValueError, "control character"),
        ([("A", "b\r\nC: d")], ValueError, "value of A has a control character"),
        ([("A", "\x7f")], ValueError, "control character"),
        ([("A", "\u20ac")], ValueError, "beyond latin-1"),
        ([("A", "\ud800")], ValueError, "beyond latin-1"),
        ([("Connection", "close")], ValueError, "hop-by-hop header 'Connection'"),
        ([("transfer-encoding", "chunked")], ValueError, "hop-by-hop"),
        ([("Content-Length", "-1")], ValueError, "must be one number"),
        ([("Content-Length", "1"), ("content-length", "1")], ValueError, "must be one number"),
    ],
)
def test_wrong_headers(given: Any, error: type[Exception], text: str) -> None:
    exchange = Exchange({})
    with pytest.raises(error, match=text):
        serve(answering([b""], given=given), exchange)
    assert exchange.calls == []


def test_refused_call_of_start_response_changes_nothing() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        with pytest.raises(ValueError):
            start_response("200 OK", [("Content-Length", "9"), ("Connection", "close")])
        start_response("200 OK", list(TEXT))
        return [b"a"]

    assert serve(app).http["headers"] == [["Content-Type", "text/plain"]]


def test_headers_are_copied() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        given = list(TEXT)
        start_response("200 OK", given)
        given.append(("X\n", "late"))
        return [b"a"]

    assert serve(app).http["headers"] == [["Content-Type", "text/plain"]]


def test_subclasses_arrive_as_the_plain_type() -> None:
    class Text(str):
        def lower(self) -> str:
            raise AssertionError("a str's own method was asked")

    exchange = serve(answering([b"abc"], Text("200 OK"), [(Text("A"), Text("\xfc\t"))]))
    assert exchange.http == {"status": 200, "reason": "OK", "headers": [["A", "\xfc\t"]]}
    assert [type(text) for text in (exchange.http["reason"], *exchange.http["headers"][0])] == [str] * 3


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, "returned NoneType, not an iterable"),
        (5, "returned int, not an iterable"),
        ("text", "a block of type str"),
        (b"text", "a block of type int"),
        ([bytearray(b"a")], "a block of type bytearray"),
        ([b"a", None], "a block of type NoneType"),
    ],
)
def test_wrong_result(result: Any, text: str) -> None:
    with pytest.raises(Fault, match=text) as caught:
        serve(answering(result))
    assert caught.value.error_type == "Runtime.MarshalError"


def test_sequence_by_index_is_an_iterable() -> None:
    class Old:
        def __getitem__(self, index: int) -> bytes:
            return [b"a", b"b"][index]

    assert serve(answering(Old())).answer == b"ab"


# close() and the application's own exceptions


@pytest.mark.parametrize("blocks", [[], [b"a"], [b"a", b"b"]])
def test_close_is_called_once_after_the_last_block(blocks: list[bytes]) -> None:
    result = Closing(blocks)
    exchange = Exchange({})
    seen: list[bytes] = []
    close = result.close

    def noting() -> None:
        seen.append(exchange.answer)
        close()

    result.close = noting  # type: ignore[method-assign]
    serve(answering(result), exchange)
    assert result.closed == 1 and seen == [b"".join(blocks)]


@pytest.mark.parametrize("blocks", [[], [b"a"], ["not bytes"]])
@pytest.mark.parametrize("error", [KeyError("mine"), SystemExit(3), KeyboardInterrupt()])
def test_close_is_called_after_an_error(blocks: list[Any], error: BaseException) -> None:
    result = Closing(blocks, error)
    with pytest.raises((type(error), Fault)):
        serve(answering(result))
    assert result.closed == 1


@pytest.mark.parametrize("name", ["respond", "begin", "write"])
def test_close_is_called_where_nobody_takes_the_answer(name: str) -> None:
    result = Closing([b"a", b"b"])
    given = [("Content-Length", "1")] if name == "respond" else []
    with pytest.raises(BrokenPipeError, match="nobody takes it"):
        serve(answering(result, given=given), Exchange({}, refuse=name))
    assert result.closed == 1


@pytest.mark.parametrize("error", [KeyError("mine"), BrokenPipeError("mine"), SystemExit(3), StopIteration("mine")])
def test_own_exceptions_pass_unchanged(error: BaseException) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(TEXT))
        raise error

    exchange = Exchange({})
    with pytest.raises(type(error)) as caught:
        serve(app, exchange)
    assert caught.value is error
    assert error.__cause__ is None and error.__context__ is None
    assert exchange.calls == []


def test_own_exception_in_mid_answer_passes_unchanged() -> None:
    error = BrokenPipeError("the application's own")
    exchange = Exchange({})
    with pytest.raises(BrokenPipeError) as caught:
        serve(answering(Closing([b"a"], error)), exchange)
    assert caught.value is error and error.__context__ is None
    assert exchange.answer == b"a"


def test_exception_of_close_passes() -> None:
    class Broken(Closing):
        def close(self) -> None:
            raise KeyError("in close")

    with pytest.raises(KeyError, match="in close"):
        serve(answering(Broken([b"a"])))


# wsgiref's validator around echo applications


def echo_list(environ: Any, start_response: Any) -> list[bytes]:
    data = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 1 << 20))
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(data)))])
    return [data]


def echo_in_pieces(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", list(TEXT))
    while data := environ["wsgi.input"].read(3):
        yield data


def echo_lines(environ: Any, start_response: Any) -> Closing:
    start_response("200 OK", list(TEXT))
    return Closing(line for line in environ["wsgi.input"])


def echo_readline(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", list(TEXT))
    yield b""
    while data := environ["wsgi.input"].readline():
        yield data


def echo_by_write(environ: Any, start_response: Any) -> list[bytes]:
    write = start_response("200 OK", list(TEXT))
    for line in environ["wsgi.input"].readlines():
        write(line)
    return []


def echo_after_an_error(environ: Any, start_response: Any) -> list[bytes]:
    start_response("500 No", list(TEXT))
    try:
        raise KeyError("broken")
    except KeyError:
        start_response("200 OK", list(TEXT), sys.exc_info())
    environ["wsgi.errors"].write("")
    environ["wsgi.errors"].flush()
    return [environ["wsgi.input"].read(1 << 20), b""]


ECHOES = [echo_list, echo_in_pieces, echo_lines, echo_readline, echo_by_write, echo_after_an_error]
DATA = b"one\ntwo\n\nlast line without an end"


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("data", [DATA, b""])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_validator_finds_nothing(
    echo: Callable[..., Any], stream: bool, data: bytes, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    http = {
        "method": method,
        "path": "/a%20b",
        "query": "a=b",
        "client": ["192.0.2.1", 5],
        **headers(("Host", "h"), ("Content-Type", "text/plain"), ("Cookie", "a=b")),
    }
    pieces = [data[at : at + 7] for at in range(0, len(data), 7)]
    exchange = serve(validator(echo), Exchange(http, pieces if stream else data))
    assert exchange.answer == data
    assert exchange.http["status"] == 200
    assert capsys.readouterr().err == ""  # the validator would report an iterable that was not closed


@pytest.mark.parametrize("body", [b"", b"{}", b'{"a": 1}', [b"{", b"}"]])
def test_validator_finds_nothing_without_http(body: bytes | list[bytes]) -> None:
    expected = (b"".join(body) if isinstance(body, list) else body).removesuffix(b"{}")
    assert serve(validator(echo_list), Exchange(None, body)).answer == expected


@pytest.mark.parametrize("echo", ECHOES)
def test_validator_finds_nothing_with_head(echo: Callable[..., Any]) -> None:
    exchange = serve(validator(echo), Exchange({"method": "HEAD"}, DATA))
    assert [call[:2] for call in exchange.calls] == [("respond", b"")]


def test_validator_finds_nothing_after_an_error() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", list(TEXT))
        yield b"begun"
        raise KeyError("mine")

    exchange = Exchange({})
    with pytest.raises(KeyError, match="mine"):
        serve(validator(app), exchange)
    assert exchange.answer == b"begun"
