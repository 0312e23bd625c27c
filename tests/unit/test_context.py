"""Tests of a request's context: every field of both platforms, with all values given and with none given."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import weakref
from typing import Any

import jsonpickle
import pytest

from pipe_runtime.call.context import Context

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
    limited = {**request, "timeout_ms": int(remaining * 1000)}
    return Context(limited, function, "index.handler", lambda line: None, **more)


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


def test_an_empty_client_context_is_one() -> None:
    empty: Any = make({"client_context": {"client": {}}}).client_context
    assert (empty.custom, empty.env, empty.client.app_title) == (None, None, None)


def test_the_w3c_trace_context_of_the_client_context() -> None:
    given = {"traceparent": "00-1", "tracestate": "a=b", "baggage": 7, "other": "x"}
    context: Any = make({"client_context": {"custom": {}, "w3c": given}})
    assert context.w3c() == copy.deepcopy(context).w3c() == {"traceparent": "00-1", "tracestate": "a=b"}
    assert not hasattr(context.client_context, "w3c")
    assert make({"client_context": {"w3c": "no map"}}).w3c() == make({}, {}).w3c() == {}


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
    context = Context({}, {}, "index.handler", lines.append)
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
    hidden = "Credentials(access_key_id='hidden', access_key_secret='hidden', security_token='hidden')"
    assert repr(context.credentials) == hidden and f"credentials={hidden}" in shown
    assert repr(make({}, {}).credentials) == "Credentials(access_key_id='', access_key_secret='', security_token='')"


def test_repr_shows_the_fields() -> None:
    shown = repr(make())
    assert shown.startswith("Context(aws_request_id='r-1', function_name='orders', function_version='7', ")
    for part in (
        "client_context=ClientContext(custom={'a': 'b'}, env={'c': 'd'}, client=Client(installation_id=None, ",
        "identity=Identity(cognito_identity_id='i-1', cognito_identity_pool_id='p-1')",
        "function=FunctionMeta(name='orders', handler='index.handler', memory=512, timeout=3)",
        "service=Service(name='shop', log_project='project', log_store='store', qualifier='prod', version_id='9')",
        "tracing=Tracing(span_context='s', jaeger_endpoint='http://j', span_baggages={'k': 'v'})",
        "tenant_id='t-1'",
        "memory_limit_in_mb='512'",
    ):
        assert part in shown
    assert "requestId" not in shown and "<" not in shown


FIELD_NAMES = {
    *("aws_request_id", "function_name", "function_version", "invoked_function_arn", "memory_limit_in_mb"),
    *("log_group_name", "log_stream_name", "client_context", "identity", "tenant_id", "request_id", "requestId"),
    *("credentials", "function", "service", "region", "account_id", "accountId", "retry_count", "tracing"),
    "traceparent",
}


def test_vars_has_every_field_and_what_was_hung_on() -> None:
    context: Any = make()
    assert set(vars(context)) == FIELD_NAMES
    context.middleware = "its own"
    context.function_name = "renamed"
    assert set(vars(context)) == {*FIELD_NAMES, "middleware"}
    assert vars(context)["function_name"] == "renamed" and vars(context)["memory_limit_in_mb"] == "512"
    vars(context)["region"] = "elsewhere"
    assert context.region == "elsewhere"
    context.__dict__ = {"region": "moved"}
    assert (context.region, context.function_name, hasattr(context, "middleware")) == ("moved", "orders", False)


def test_a_field_is_computed_when_it_is_read() -> None:
    context = make({"request_id": "r-1", "retry_count": "many"})  # an init never sends this value
    assert context.aws_request_id == "r-1"
    with pytest.raises(ValueError, match="many"):
        context.retry_count  # noqa: B018


def same(one: Any, other: Any) -> bool:
    """Tell whether two contexts are equal, part by part."""
    return repr(vars(one)) == repr(vars(other)) and vars(one.credentials) == vars(other.credentials)


def through_jsonpickle(given: Any) -> Any:
    return jsonpickle.decode(jsonpickle.encode(given, keys=True), keys=True)


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle-{version}": lambda given, v=version: pickle.loads(pickle.dumps(given, v)) for version in range(2, 6)},
    "jsonpickle": lambda given: through_jsonpickle(given),
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_a_context_with_the_same_fields(way: str) -> None:
    lines: list[str] = []
    context: Any = Context({**REQUEST, "timeout_ms": 30_000}, FUNCTION, "index.handler", lines.append, lambda: True)
    context.middleware = ["its own"]
    found: Any = COPIES[way](context)
    assert type(found) is Context and same(found, context)
    assert 0 < found.get_remaining_time_in_millis() <= 30_000
    assert found.cancelled is True
    assert found.to_json() == context.to_json()
    assert found.logger is logging.getLogger()
    assert (found.middleware is context.middleware) == (way == "copy")
    assert (found.client_context is context.client_context) == (way == "copy")


def test_a_deep_copy_logs_and_hears_of_a_cancellation_as_its_original() -> None:
    lines: list[str] = []
    asked = [False]
    context = Context(REQUEST, FUNCTION, "index.handler", lines.append, lambda: asked[0])
    for found in (copy.copy(context), copy.deepcopy({"a": [context]})["a"][0]):
        found.log("text")
        assert not found.cancelled
        asked[0] = True
        assert found.cancelled
        asked[0] = False
    assert lines == ["text", "text"]


def test_a_pickled_one_logs_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    pickle.loads(pickle.dumps(make())).log({"a": 1})
    assert capsys.readouterr() == ("", "{'a': 1}\n")


@pytest.mark.parametrize("name", ["client_context", "identity", "function", "service", "credentials", "tracing"])
def test_each_part_is_a_plain_object(name: str) -> None:
    part = getattr(make(), name)
    for found in (copy.deepcopy(part), pickle.loads(pickle.dumps(part)), through_jsonpickle(part)):
        assert type(found) is type(part) and found is not part
        assert repr(vars(found)) == repr(vars(part))
    assert repr(part).startswith(type(part).__name__ + "(")


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


def test_weak_references() -> None:
    context = make()
    assert weakref.ref(context)() is context
