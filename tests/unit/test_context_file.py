"""Tests of the file for --context: what it may hold, what becomes of it, and the messages for wrong files."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pipe_init.cli.function.checks import MAX_ASKED
from pipe_init.cli.function.context_file import FUNCTION_KEYS, REQUEST_KEYS, read_context_file
from pipe_init.cli.function.describe import describe_function
from pipe_init.cli.options.usage_errors import UsageError
from pipe_init.cli.run import options_of, run
from pipe_init.model import Function
from pipe_runtime.call.context import Context

FUNCTION = {
    "name": "shop",
    "version": "7",
    "arn": "arn:aws:lambda:eu-1:123456789012:function:shop",
    "log_group": "/logs/shop",
    "log_stream": "a stream",
    "region": "eu-1",
    "account_id": "123456789012",
    "service": {"name": "s", "log_project": "p", "log_store": "l", "qualifier": "q", "version_id": "v"},
    "credentials": {"access_key_id": "id", "access_key_secret": "secret", "security_token": "token"},
}
REQUEST = {
    "request_id": "r-1",
    "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tenant_id": "t",
    "retry_count": 2,
    "client_context": {"custom": {"a": [1, 2.5, None, True, {"b": "ü"}]}, "client": {"app_title": "App"}},
    "identity": {"cognito_identity_id": "i", "cognitoIdentityPoolId": "p", "more": 1},
    "tracing": {"span_context": "c", "jaeger_endpoint": "e", "span_baggages": {"k": "v"}},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "context.json"


def describe(file: Path, *arguments: str) -> Function:
    command = ["index.handler", "--context", str(file), *arguments]
    return describe_function(options_of(run.make_context("run", command)))


def refused(file: Path, content: Any) -> str:
    """Return the error for a file with this content, without the file's name. Content other than bytes becomes JSON."""
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(UsageError) as caught:
        read_context_file(str(file))
    message = str(caught.value)
    assert message.startswith(f"--context {str(file)!r}: ")
    return message.partition("': ")[2]


def test_everything(file: Path) -> None:
    assert FUNCTION.keys() == FUNCTION_KEYS.keys() and REQUEST.keys() == REQUEST_KEYS.keys()
    file.write_text(json.dumps({**FUNCTION, **REQUEST}))
    function = describe(file, "-m", "128", "-t", "3")
    assert function.hello["function"] == {**FUNCTION, "memory_mb": 128, "timeout_ms": 3000}
    assert dict(function.metadata) == REQUEST
    assert function.version == "7"


def test_the_handlers_context_shows_it(file: Path) -> None:
    file.write_text(json.dumps({**FUNCTION, **REQUEST}))
    function = describe(file)
    context = Context(function.metadata, function.hello["function"], "index.handler", print)
    assert (context.function_name, context.function_version, context.invoked_function_arn) == (
        FUNCTION["name"],
        FUNCTION["version"],
        FUNCTION["arn"],
    )
    assert vars(context.service) == FUNCTION["service"]
    assert context.credentials.security_token == "token" and context.account_id == FUNCTION["account_id"]
    assert (context.request_id, context.traceparent, context.tenant_id) == ("r-1", REQUEST["trace"], "t")
    assert context.retry_count == 2 and vars(context.tracing) == REQUEST["tracing"]
    assert context.client_context is not None and context.client_context.client is not None
    assert context.client_context.client.app_title == "App"
    assert (context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id) == ("i", "p")


def test_nothing(file: Path) -> None:
    file.write_text("{}")
    function = describe(file, "--platform", "none")
    assert set(function.hello["function"]) == {"memory_mb", "timeout_ms"}
    assert (dict(function.metadata), function.version) == ({}, "$LATEST")


def test_a_byte_order_mark(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbf{"name": "n"}')
    assert read_context_file(str(file)) == ({"name": "n"}, {})


def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=('{"name": "n"}',))
    writer.start()
    assert read_context_file(str(tmp_path / "pipe")) == ({"name": "n"}, {})
    writer.join()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is not JSON: Expecting value: line 1 column 1 (char 0)."),
        (b"{bad", "it is not JSON: Expecting property name"),
        (b"[" * 200_000, "it is not JSON: "),
        (b'{"a": ' + b"1" * 5000 + b"}", "it is not JSON: "),
        ([], "it is not a JSON object."),
        (None, "it is not a JSON object."),
        ({"memory_mb": 1}, "'memory_mb' is not for the file; it is what --memory says."),
        ({"timeout_ms": 1}, "'timeout_ms' is not for the file; it is what --timeout says."),
        ({"functionName": "x"}, "there is no key 'functionName'; there are name, version, arn, "),
        ({"": 1}, "there is no key ''; there are "),
        ({"\ud800\n": 1}, "there is no key '\\ud800\\n'; there are "),
        ({"service": {"nam": "x"}}, "there is no key 'service.nam'; there are service.name, service.log_project, "),
        ({"credentials": {"accessKeyId": "x"}}, "there is no key 'credentials.accessKeyId'; there are "),
        ({"tracing": {"x": "x"}}, "there is no key 'tracing.x'; there are tracing.span_context, "),
        ({"name": None}, "'name' is not a text."),
        ({"account_id": 123}, "'account_id' is not a text."),
        ({"service": "s"}, "'service' is not an object."),
        ({"service": {"name": 1}}, "'service.name' is not a text."),
        ({"credentials": {"security_token": ["s3cret"]}}, "'credentials.security_token' is not a text."),
        ({"tracing": {"span_baggages": []}}, "'tracing.span_baggages' is not an object."),
        ({"client_context": []}, "'client_context' is not an object."),
        ({"identity": "me"}, "'identity' is not an object."),
        ({"retry_count": -1}, "'retry_count' is not an integer from 0 to 2^64 - 1."),
        ({"retry_count": 2**64}, "'retry_count' is not an integer"),
        ({"retry_count": True}, "'retry_count' is not an integer"),
        ({"retry_count": 1.0}, "'retry_count' is not an integer"),
        ({"version": "1\nREPORT"}, "'version' is not a text of printable characters."),
        ({"arn": "a\nb"}, "'arn' has a control character in it."),
        ({"service": {"name": "a\0b"}}, "'service.name' has a control character in it."),
        ({"version": "1\u2028REPORT"}, "'version' is not a text of printable characters."),
        ({"version": ""}, "'version' is not a text of printable characters."),
        ({"request_id": "\x1b[2J"}, "'request_id' is not a text of printable characters."),
        ({"request_id": ""}, "'request_id' is not a text of printable characters."),
        ({"name": "\ud800"}, "'name' has a number, a text or a depth that the protocol cannot carry."),
        ({"identity": {"\ud800": 1}}, "'identity' has a number, a text or a depth"),
        ({"identity": {"a": 2**64}}, "'identity' has a number, a text or a depth"),
        ({"client_context": {"custom": [0] * 1025}}, "'client_context' has a number, a text or a depth"),
        (b'{"client_context": ' + b'{"a":' * 70 + b"1" + b"}" * 71, "'client_context' has a number, a text or a depth"),
    ],
)
def test_what_is_wrong(file: Path, content: Any, says: str) -> None:
    message = refused(file, content)
    assert message.startswith(says)
    assert "s3cret" not in message


def test_texts_about_the_request_may_have_control_characters(file: Path) -> None:
    given = {"trace": "a\tb", "tenant_id": "a\nb", "tracing": {"span_context": "a\x7f"}, "client_context": {"a": "\0"}}
    file.write_text(json.dumps(given))
    assert read_context_file(str(file)) == ({}, given)


def test_no_stdin() -> None:
    with pytest.raises(UsageError) as caught:
        read_context_file("-")
    assert str(caught.value) == "--context: stdin is for events; name a file."


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nowhere", "No such file or directory"), (".", "Is a directory"), ("no text", "it is not UTF-8 text")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "no text").write_bytes(b'{"name": "\xff"}')
    path = os.path.join(tmp_path, name)
    with pytest.raises(UsageError) as caught:
        read_context_file(path)
    assert str(caught.value) == f"--context: cannot read {path!r}: {reason}."


def test_a_request_id_is_for_one_event(file: Path) -> None:
    file.write_text('{"request_id": "r"}')
    with pytest.raises(UsageError, match="request_id is for a single event"):
        describe(file, "--events", "-")
    assert describe(file).metadata["request_id"] == "r"


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("arn", "HANDLER, its hooks, --code-dir, --layer, --name, --region and --context"),
        ("tenant_id", "--request, --header and --context"),
    ],
)
def test_what_does_not_fit_into_a_head(file: Path, key: str, what: str) -> None:
    file.write_text(json.dumps({key: "x" * (MAX_ASKED - 4500)}))
    assert describe(file)
    file.write_text(json.dumps({key: "x" * MAX_ASKED}))
    with pytest.raises(UsageError) as caught:
        describe(file)
    message = str(caught.value)
    assert message.startswith(f"{what} make ") and message.endswith(f" bytes together; the limit is {MAX_ASKED}.")


def test_headers_and_context_share_a_head(file: Path) -> None:
    file.write_text(json.dumps({"tenant_id": "x" * 40_000}))
    header = ("--header", "X-A: " + "x" * 40_000)
    assert describe(file)
    with pytest.raises(UsageError, match="make 80[0-9]{3} bytes together"):
        describe(file, *header)
