"""The context of a request: every field of both platforms, with everything given and with nothing given."""

from __future__ import annotations

import copy
import json
import logging
import time
import weakref
from typing import Any

import pytest

from pipe_runtime.context import Context

REQUEST = {
    "request_id": "r-1",
    "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "client_context": {"custom": {"a": "b"}, "env": {"c": "d"}, "client": {"app_title": "shop"}},
    "identity": {"cognito_identity_id": "i-1", "cognito_identity_pool_id": "p-1"},
    "tenant_id": "t-1",
    "retry_count": 2,
    "tracing": {"span_context": "s", "jaeger_endpoint": "http://j", "span_baggages": {"k": "v"}},
}
FUNCTION = {
    "name": "orders",
    "version": "7",
    "arn": "arn:aws:lambda:eu-west-1:123456789012:function:orders",
    "memory_mb": 512,
    "timeout_ms": 3000,
    "log_group": "/logs/orders",
    "log_stream": "stream-1",
    "region": "eu-west-1",
    "account_id": "123456789012",
    "service": {
        "name": "shop",
        "log_project": "project",
        "log_store": "store",
        "qualifier": "prod",
        "version_id": "9",
    },
    "credentials": {
        "access_key_id": "key-id",
        "access_key_secret": "key-secret",
        "security_token": "the-token",
    },
}


def make(
    request: dict[str, Any] = REQUEST, function: dict[str, Any] = FUNCTION, remaining: float = 3, **more: Any
) -> Context:
    deadline = time.monotonic() + remaining
    return Context(request, function, "index.handler", deadline, lambda line: None, **more)


def value_at(context: Context, path: str) -> Any:
    value: Any = context
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("path", "given", "local"),
    [
        ("aws_request_id", "r-1", ""),
        ("request_id", "r-1", ""),
        ("requestId", "r-1", ""),
        ("function_name", "orders", "function"),
        ("function_version", "7", "$LATEST"),
        ("invoked_function_arn", FUNCTION["arn"], "arn:aws:lambda:local:000000000000:function:function"),
        ("memory_limit_in_mb", "512", "128"),
        ("log_group_name", "/logs/orders", "/aws/lambda/function"),
        ("identity.cognito_identity_id", "i-1", None),
        ("identity.cognito_identity_pool_id", "p-1", None),
        ("tenant_id", "t-1", None),
        ("credentials.access_key_id", "key-id", ""),
        ("credentials.accessKeyId", "key-id", ""),
        ("credentials.access_key_secret", "key-secret", ""),
        ("credentials.accessKeySecret", "key-secret", ""),
        ("credentials.security_token", "the-token", ""),
        ("credentials.securityToken", "the-token", ""),
        ("function.name", "orders", "function"),
        ("function.handler", "index.handler", "index.handler"),
        ("function.memory", 512, 128),
        ("function.timeout", 3, 60),
        ("service.name", "shop", ""),
        ("service.log_project", "project", ""),
        ("service.log_store", "store", ""),
        ("service.qualifier", "prod", "LATEST"),
        ("service.version_id", "9", ""),
        ("region", "eu-west-1", "local"),
        ("account_id", "123456789012", "000000000000"),
        ("accountId", "123456789012", "000000000000"),
        ("retry_count", 2, 0),
        ("tracing.span_context", "s", None),
        ("tracing.jaeger_endpoint", "http://j", None),
        ("tracing.span_baggages", {"k": "v"}, {}),
        ("traceparent", REQUEST["trace"], None),
        ("cancelled", False, False),
    ],
)
def test_field(path: str, given: object, local: object) -> None:
    full, empty = value_at(make(), path), value_at(make({}, {}), path)
    assert (full, type(full)) == (given, type(given))
    assert (empty, type(empty)) == (local, type(local))


def test_log_stream() -> None:
    assert make().log_stream_name == "stream-1"
    assert make({}, {}).log_stream_name.startswith("local/[$LATEST]")


def test_client_context() -> None:
    given: Any = make().client_context
    assert (given.custom, given.env) == ({"a": "b"}, {"c": "d"})
    assert (given.client.app_title, given.client.installation_id) == ("shop", None)
    assert make({}, {}).client_context is None
    partial: Any = make({"client_context": {"custom": {"a": 1}}}).client_context
    assert (partial.custom, partial.env, partial.client) == ({"a": 1}, None, None)


def test_lambdas_own_spelling_of_the_identity() -> None:
    identity = make({"identity": {"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}}).identity
    assert (identity.cognito_identity_id, identity.cognito_identity_pool_id) == ("i", "p")


def test_missing_and_null_are_the_same() -> None:
    context = make(dict.fromkeys(REQUEST), dict.fromkeys(FUNCTION))
    assert json.loads(context.to_json()) == json.loads(make({}, {}).to_json())
    assert context.client_context is None
    assert context.identity.cognito_identity_id is None


def test_a_timeout_of_part_of_a_second_is_not_zero() -> None:
    assert make(function={"timeout_ms": 1500}).function.timeout == 2
    assert make(function={"timeout_ms": 1}).function.timeout == 1


def test_remaining_time() -> None:
    remaining = make(remaining=3).get_remaining_time_in_millis()
    assert type(remaining) is int and 0 < remaining <= 3000
    assert make(remaining=-5).get_remaining_time_in_millis() == 0


def test_log_takes_anything() -> None:
    lines: list[str] = []
    context = Context({}, {}, "index.handler", 0.0, lines.append)
    context.log("text")
    context.log({"a": 1})
    assert lines == ["text", "{'a': 1}"]


def test_logger_is_the_root_of_the_functions_own_logging() -> None:
    context = make()
    assert context.logger is logging.getLogger()
    assert context.getLogger() is logging.getLogger()


def test_to_json_has_the_public_fields() -> None:
    fields = json.loads(make().to_json())
    assert fields == {
        "request_id": "r-1",
        "credentials": FUNCTION["credentials"],
        "function": {"name": "orders", "handler": "index.handler", "memory": 512, "timeout": 3},
        "service": FUNCTION["service"],
        "region": "eu-west-1",
        "account_id": "123456789012",
        "retry_count": 2,
        "tracing": REQUEST["tracing"],
    }


def test_nothing_prints_the_credentials() -> None:
    context = make()
    shown = f"{context!r} {context} {context.credentials!r} {context.credentials} {vars(context)}"
    assert "r-1" in shown and "orders" in shown
    assert "key-id" not in shown and "key-secret" not in shown and "the-token" not in shown


def test_cancelled_by_flag_or_by_callable() -> None:
    asked = [False]
    context = make(cancelled=lambda: asked[0])
    assert context.cancelled is False
    asked[0] = True
    assert context.cancelled is True
    assert make(cancelled=True).cancelled is True


def test_unknown_attributes_raise_and_new_ones_can_be_hung_on() -> None:
    context: Any = make()
    with pytest.raises(AttributeError, match="no_such_field"):
        context.no_such_field  # noqa: B018
    assert not hasattr(context, "get_logger")
    context.middleware = "its own"
    context.function_name = "renamed"
    assert (context.middleware, context.function_name) == ("its own", "renamed")


def test_a_field_is_one_object_and_each_request_has_its_own() -> None:
    context, other = make(), make()
    assert context.credentials is context.credentials
    assert context.credentials is not other.credentials
    context.tracing.span_baggages["x"] = 1
    assert "x" not in other.tracing.span_baggages


def test_copies_and_weak_references() -> None:
    context = make()
    assert copy.copy(context).request_id == "r-1"
    assert weakref.ref(context)() is context
