"""HTTP for event functions: the request as a platform's event, and the result as an answer."""

from __future__ import annotations

import base64
import json
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from pipe_runtime.adapters.http_trigger import FC, LAMBDA, answer_of, event_of
from pipe_runtime.call.context import Context
from pipe_runtime.wire.errors import Fault
from pipe_runtime.wire.messages import END, ERROR, RESULT
from pipe_testing import tools
from pipe_testing.command import PipeInit
from pipe_testing.runtime import RuntimeProcess

HTTP = {
    "method": "POST",
    "path": "/a%20b",
    "query": "x=1&x=2&y=%C3%BC&z=",
    "headers": [["Host", "shop.local"], ["X-A", "1"], ["X-A", "2"], ["Cookie", "a=1; b=2"], ["User-Agent", "test"]],
    "client": ["10.0.0.1", 5],
    "version": "1.1",
}
CONTEXT = Context({"request_id": "r-1"}, {"account_id": "17"}, "index.handler", 0.0, print)


def event(platform: str, body: bytes = b"", **http: Any) -> Any:
    made = event_of(platform, {"http": {**HTTP, **http}}, body, CONTEXT)
    return json.loads(made) if isinstance(made, bytes) else made


class TestEvents:
    def test_lambdas(self) -> None:
        found = event(LAMBDA, b'{"a": 1}')
        context = found.pop("requestContext")
        assert context.pop("time")[11] == ":" and type(context.pop("timeEpoch")) is int
        assert context == {
            "accountId": "17",
            "apiId": "local",
            "domainName": "shop.local",
            "domainPrefix": "shop",
            "http": {
                "method": "POST",
                "path": "/a b",
                "protocol": "HTTP/1.1",
                "sourceIp": "10.0.0.1",
                "userAgent": "test",
            },
            "requestId": "r-1",
            "routeKey": "$default",
            "stage": "$default",
        }
        assert found == {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/a b",
            "rawQueryString": "x=1&x=2&y=%C3%BC&z=",
            "queryStringParameters": {"x": "1,2", "y": "ü", "z": ""},
            "cookies": ["a=1", "b=2"],
            "headers": {"host": "shop.local", "x-a": "1,2", "cookie": "a=1; b=2", "user-agent": "test"},
            "body": '{"a": 1}',
            "isBase64Encoded": False,
        }

    def test_what_lambda_leaves_out(self) -> None:
        found = event(LAMBDA, query="", headers=[])
        assert not {"body", "cookies", "queryStringParameters"} & found.keys()
        assert found["requestContext"]["domainName"] == "localhost"

    def test_function_computes(self) -> None:
        found = event(FC, b"text")
        context = found.pop("requestContext")
        assert context.pop("time").endswith("Z") and context.pop("timeEpoch").isdigit()
        assert context["http"]["path"] == "/a b" and context["requestId"] == "r-1" and context["accountId"] == "17"
        assert found == {
            "version": "v1",
            "rawPath": "/a%20b",
            "body": "text",
            "isBase64Encoded": False,
            "headers": {"Host": "shop.local", "X-A": "1,2", "Cookie": "a=1; b=2", "User-Agent": "test"},
            "queryParameters": {"x": "1,2", "y": "ü", "z": ""},
        }
        assert event(FC)["body"] == ""

    @pytest.mark.parametrize("platform", [LAMBDA, FC])
    def test_a_body_that_is_no_text(self, platform: str) -> None:
        found = event(platform, b"\xff\x00")
        assert (found["isBase64Encoded"], base64.b64decode(found["body"])) == (True, b"\xff\x00")

    @pytest.mark.parametrize("platform", [LAMBDA, FC])
    @pytest.mark.parametrize(
        "http", [{"headers": [1]}, {"path": 7}, {"query": 5}, {"headers": [["a"]]}, {"version": 1}]
    )
    def test_a_map_that_cannot_be_used(self, platform: str, http: dict[str, Any]) -> None:
        with pytest.raises(Fault, match="the http map") as caught:
            event(platform, **http)
        assert caught.value.error_type == "Runtime.UnmarshalError"


class TestAnswers:
    @pytest.mark.parametrize("platform", [LAMBDA, FC])
    def test_one_with_a_status(self, platform: str) -> None:
        value = {
            "statusCode": 404,
            "headers": {"Content-Type": "text/plain", "X-N": 1, "X-B": True, "X-R": "no", "X-U": "ü"},
            "multiValueHeaders": {"x-r": ["1", "2"]},
            "cookies": ["a=1"],
            "body": "näh",
        }
        body, content_type, http = answer_of(platform, value)
        assert (body.decode(), content_type, http["status"]) == ("näh", "text/plain", 404)
        assert http["headers"] == [
            ["Content-Type", "text/plain"],
            ["X-N", "1"],
            ["X-B", "true"],
            ["X-U", "Ã¼"],
            ["x-r", "1"],
            ["x-r", "2"],
            ["set-cookie", "a=1"],
        ]

    @pytest.mark.parametrize(
        ("value", "body"),
        [
            ({"statusCode": 200}, b""),
            ({"statusCode": "200", "body": None}, b""),
            ({"statusCode": 200, "body": "AP8=", "isBase64Encoded": True}, b"\x00\xff"),
            ({"statusCode": 200, "headers": None, "body": "x"}, b"x"),
        ],
    )
    def test_bodies(self, value: dict[str, Any], body: bytes) -> None:
        assert answer_of(LAMBDA, value) == (
            body,
            "application/json",
            {"status": 200, "headers": [["content-type", "application/json"]]},
        )

    @pytest.mark.parametrize(
        ("platform", "value", "body"),
        [
            (LAMBDA, {"a": 1}, b'{"a": 1}'),
            (LAMBDA, "text", b"text"),
            (LAMBDA, None, b"null"),
            (LAMBDA, '{"statusCode": 404}', b'{"statusCode": 404}'),
            (FC, "text", b"text"),
            (FC, b"\xff", b"\xff"),
            (FC, [1], b"[1]"),
        ],
    )
    def test_any_other_value_is_the_body(self, platform: str, value: object, body: bytes) -> None:
        found, _, http = answer_of(platform, value)
        assert (found, http["status"]) == (body, 200)

    @pytest.mark.parametrize("value", ['{"statusCode": 404}', b'{"statusCode": 404}', {"statusCode": 404}])
    def test_function_compute_looks_into_text(self, value: object) -> None:
        assert answer_of(FC, value)[2]["status"] == 404

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            ({"statusCode": "ok"}, "its statusCode"),
            ({"statusCode": 99}, "its statusCode"),
            ({"statusCode": True}, "its statusCode"),
            ({"statusCode": 200, "body": {}}, "json.dumps"),
            ({"statusCode": 200, "body": "é", "isBase64Encoded": True}, "not base64"),
            ({"statusCode": 200, "headers": [1]}, "its headers"),
            ({"statusCode": 200, "headers": {"a": {}}}, "its header 'a'"),
        ],
    )
    def test_what_is_no_answer(self, value: object, why: str) -> None:
        with pytest.raises(Fault, match=why) as caught:
            answer_of(LAMBDA, value)
        assert caught.value.error_type == "Runtime.MarshalError"


# In a runtime

SOURCE = """
import dataclasses, json

def handler(event, context):
    if isinstance(event, bytes):
        event = json.loads(event)
    return {"statusCode": 200, "body": event["requestContext"]["http"]["method"] + " " + event.get("body", "")}

async def later(event, context):
    return handler(event, context)

def items(event, context):
    yield 1

@dataclasses.dataclass
class Request:
    rawPath: str

def typed(event: Request, context):
    return {"statusCode": 200, "body": event.rawPath}
"""


@pytest.mark.parametrize("platform", [LAMBDA, FC])
@pytest.mark.parametrize("more", [{}, {"concurrency": 2}], ids=["alone", "several at once"])
@pytest.mark.parametrize("handler", ["index.handler", "index.later", "index.typed"])
def test_every_kind_of_event_function(tmp_path: Path, platform: str, more: dict[str, Any], handler: str) -> None:
    with RuntimeProcess(tmp_path, SOURCE) as runtime:
        runtime.start(handler, platform=platform, **more)
        frame = runtime.outcome(runtime.invoke("x", accept="*/*", http={"method": "PUT", "path": "/p"}))
        assert frame.kind == RESULT, frame
        assert frame.metadata["http"]["status"] == 200
        assert frame.payload == (b"/p" if handler == "index.typed" else b'PUT "x"')


@pytest.mark.parametrize(
    ("handler", "platform", "kind"),
    [
        ("index.handler", "", "Runtime.UnmarshalError"),
        ("index.later", "another", "Runtime.UnmarshalError"),
        ("index.items", "fc", "Runtime.MarshalError"),
    ],
)
def test_what_is_refused(tmp_path: Path, handler: str, platform: str, kind: str) -> None:
    with RuntimeProcess(tmp_path, SOURCE) as runtime:
        runtime.start(handler, platform=platform)
        frame = runtime.outcome(runtime.invoke("x", accept="*/*", http={}))
        assert frame.kind in (ERROR, END) and frame.metadata["error_type"] == kind


# With the command


@pytest.mark.unmeasured
def test_with_the_command(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(SOURCE)
    common = ("run", "index.handler", "-q", "--request", "POST /")
    assert pipe_init(*common, "-e", "body", cwd=tmp_path).stdout == b"POST body"
    with_head = pipe_init(*common, "-i", "--platform", "fc", "-e", "body", cwd=tmp_path).stdout
    assert with_head == b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\nPOST body"
    lines = pipe_init(*common, "--events", "-", cwd=tmp_path, stdin=b"one\ntwo\n").stdout.splitlines()
    assert [json.loads(line)["body"] for line in lines] == ["POST one", "POST two"]
    (tmp_path / "body").write_bytes(b"x" * 20_000_000)
    large = pipe_init(*common, "-f", "body", cwd=tmp_path)
    assert (large.returncode, len(large.stdout)) == (0, 20_000_005)
    refused = pipe_init("run", "index.handler", "--request", "/", "--platform", "none", cwd=tmp_path)
    assert refused.returncode == 1 and b"pipe-init: hint: with --platform lambda or fc" in refused.stderr


@pytest.mark.unmeasured
def test_an_adapter_for_lambda_gets_the_request(pipe_init: PipeInit) -> None:
    """Mangum makes a request of Lambda's event again: both sides of the form have to agree."""
    tools.require(util.find_spec("mangum") is not None, "needs the package mangum")
    folder = Path(__file__).parents[2] / "examples" / "mangum"
    finished = pipe_init("run", "app.handler", "-q", "-C", str(folder), "--request", "/items/7?a=1")
    assert (finished.returncode, finished.stdout) == (0, b'{"item":7,"stage":"$default"}'), finished.stderr
    assert (
        pipe_init("run", "app.handler", "-q", "-C", str(folder), "--request", "/no").stdout == b'{"detail":"Not Found"}'
    )
