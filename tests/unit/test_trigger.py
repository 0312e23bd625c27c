"""Tests of HTTP for event functions: a request becomes a platform's event, and a result becomes an HTTP answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from pipe_runtime.adapters.http_trigger import FC, LAMBDA, answer_of, event_of
from pipe_runtime.call.context import Context
from pipe_runtime.wire.errors import Fault

HTTP = {
    "method": "POST",
    "path": "/a%20b",
    "query": "x=1&x=2&y=%C3%BC&z=",
    "headers": [["Host", "shop.local"], ["X-A", "1"], ["X-A", "2"], ["Cookie", "a=1; b=2"], ["User-Agent", "test"]],
    "client": ["10.0.0.1", 5],
    "version": "1.1",
}
CONTEXT = Context({"request_id": "r-1"}, {"account_id": "17"}, "index.handler", print)


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


# With the command
