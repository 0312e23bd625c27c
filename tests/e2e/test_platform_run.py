"""Tests of `--platform` with real processes: what a function finds while its module loads, and with each request."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipe_init.cli.function.describe import describe_function
from pipe_init.cli.run import options_of, run
from pipe_init.workers import launch
from pipe_testing.command import Finished, PipeInit
from pipe_testing.runtime import RuntimeProcess

pytestmark = pytest.mark.unmeasured

VERSION = f"AWS_Lambda_python{sys.version_info[0]}.{sys.version_info[1]}"
W3C = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"

CLIENT = """
import os

REGION = os.environ["AWS_REGION"]  # as the client of an SDK at module level does
SEEN = dict(os.environ)

def handler(event, context):
    return {
        "region": [REGION, context.region, context.invoked_function_arn.split(":")[3]],
        "name": [SEEN["AWS_LAMBDA_FUNCTION_NAME"], context.function_name],
        "version": [SEEN["AWS_LAMBDA_FUNCTION_VERSION"], context.function_version],
        "memory": [SEEN["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], context.memory_limit_in_mb],
        "group": [SEEN["AWS_LAMBDA_LOG_GROUP_NAME"], context.log_group_name],
        "stream": [SEEN["AWS_LAMBDA_LOG_STREAM_NAME"], context.log_stream_name],
        "python": SEEN["AWS_EXECUTION_ENV"],
        "folders": [SEEN["LAMBDA_TASK_ROOT"], os.path.isdir(SEEN["LAMBDA_RUNTIME_DIR"])],
        "handler": SEEN["_HANDLER"],
    }
"""


@pytest.fixture
def call(pipe_init: PipeInit, tmp_path: Path) -> Any:
    """Return `call(source, "run", …)`. It runs a function in a folder, for a user without any AWS configuration."""

    def run(source: str, *arguments: str, env: Mapping[str, str | None] | None = None, stdin: bytes = b"") -> Finished:
        (tmp_path / "index.py").write_text(source)
        none = dict.fromkeys(name for name in os.environ if name.startswith(("AWS_", "FC_", "TZ")))
        clean = {**none, "HOME": str(tmp_path), **(env or {})}
        return pipe_init("run", "index.handler", *arguments, cwd=tmp_path, env=clean, stdin=stdin)

    return run


@pytest.mark.parametrize(
    "how",
    [
        (),
        ("-E", "LC_TIME=C"),
        ("--events", "-", "-w", "2"),
        ("--events", "-", "-w", "2", "--start-method", "exec"),
        ("--events", "-", "--isolation", "request"),
        ("--events", "-", "--concurrency", "2"),
    ],
)
def test_the_variables_are_there_while_the_module_loads(call: Any, tmp_path: Path, how: tuple[str, ...]) -> None:
    finished = call(CLIENT, "-q", "--name", "shop", "--region", "eu-1", "-m", "300", *how, stdin=b"{}\n{}\n")
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len(lines) == (2 if "--events" in how else 1), finished.stderr
    for found in lines:
        variable, shown = found.pop("stream")
        assert variable == shown and "[$LATEST]" in shown
        assert found == {
            "region": ["eu-1"] * 3,
            "name": ["shop"] * 2,
            "version": ["$LATEST"] * 2,
            "memory": ["300"] * 2,
            "group": ["/aws/lambda/shop"] * 2,
            "python": VERSION,
            "folders": [str(tmp_path), True],
            "handler": "index.handler",
        }


def test_a_worker_that_was_started_early_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in ((), ("--platform", "lambda"), ("--platform", "fc"), ("--region", "eu-1", "--name", "n")):
        function = describe_function(options_of(run.make_context("run", ["index.handler", *arguments])))
        assert function.environment == launch.function_environment(os.environ)


@pytest.mark.parametrize(
    ("env", "files", "region"),
    [
        ({"AWS_REGION": "eu-1"}, {}, "eu-1"),
        ({"AWS_DEFAULT_REGION": "eu-2"}, {}, "eu-2"),
        ({}, {".aws/config": "[default]\nregion=eu-3\n"}, "eu-3"),
        ({"PIPE_INIT_REGION": "eu-4", "AWS_REGION": "eu-1"}, {}, "eu-4"),
    ],
)
def test_a_region_that_is_known_is_not_talked_of(
    call: Any, tmp_path: Path, env: dict[str, str], files: dict[str, str], region: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    finished = call(CLIENT, "--platform", "lambda", env=env)
    assert json.loads(finished.stdout)["region"] == [region] * 3
    assert b"AWS_REGION" not in finished.stderr


@pytest.mark.parametrize(
    ("source", "arguments", "times"),
    [
        (CLIENT, (), 1),
        (CLIENT, ("--events", "-", "-w", "2"), 1),
        (CLIENT, ("-q",), 0),
        (CLIENT, ("--log-style", "none"), 0),
        ("def handler(event, context): pass", (), 0),
        ("def handler(event, context): pass", ("--platform", "lambda"), 1),
        ("def handler(event, context): pass", ("--platform", "none"), 0),
    ],
)
def test_a_region_that_was_assumed_is_said_once(call: Any, source: str, arguments: tuple[str, ...], times: int) -> None:
    finished = call(source, *arguments, stdin=b"{}\n{}\n")
    assert finished.returncode == 0
    assert finished.stderr.count(b"pipe-init: AWS_REGION is us-east-1: neither") == times


def test_lambda_spelled_out(call: Any) -> None:
    source = (
        "import time\nHERE = time.localtime(0).tm_hour, time.tzname[0]\n"
        "def handler(event, context):\n    if event: raise ValueError('x')\n    return HERE\n"
    )
    finished = call(source, "--platform", "lambda")
    assert json.loads(finished.stdout) == [0, "UTC"]
    lines = finished.stderr.decode().splitlines()[1:]
    assert [line.split(" ")[0] for line in lines] == ["START", "END", "REPORT"]
    assert json.loads(call(source, "--platform", "lambda", "-E", "TZ=XYZ-9").stdout) == [9, "XYZ"]
    assert json.loads(call(source, "--platform", "lambda", "-q", env={"TZ": "XYZ-8"}).stdout) == [8, "XYZ"]
    failed = call(source, "--platform", "lambda", "-e", "1", "--log-style", "none")
    assert json.loads(failed.stderr)["stackTrace"][0].startswith('  File "')


def test_fc_spelled_out(call: Any) -> None:
    source = (
        "import os\nSEEN = {name: os.environ[name] for name in os.environ if name.startswith('FC_')}\n"
        "def handler(event, context):\n"
        "    if event == b'fail': raise ValueError('x')\n"
        "    assert SEEN['FC_REGION'] == context.region and SEEN['FC_FUNCTION_NAME'] == context.function.name\n"
        "    return type(event).__name__ + ' in ' + SEEN['FC_REGION'] + ' ' + str('AWS_REGION' in os.environ)\n"
    )
    finished = call(source, "--platform", "fc", "-e", "no JSON")
    assert finished.stdout == b"bytes in cn-hangzhou False"
    said = finished.stderr.decode().splitlines()
    assert said[0].startswith("pipe-init: FC_REGION is cn-hangzhou: neither")
    assert [line.split(" ")[0] for line in said[1:]] == ["FC", "FC", "REPORT"]
    failed = call(source, "--platform", "fc", "-e", "fail", "-q")
    assert json.loads(failed.stderr)["stackTrace"][0][1:3] == [4, "handler"]


def test_options_of_ones_own_are_stronger_than_the_platforms(call: Any) -> None:
    source = "def handler(event, context):\n    return type(event).__name__\n"
    arguments = ("--platform", "fc", "--log-style", "none", "--error-style", "text", "-e", "[1]")
    assert (call(source, *arguments).stdout, call(source, *arguments[2:]).stdout) == (b"bytes", b'"list"\n')
    finished = call(source, *arguments, env={"PIPE_INIT_RAW": "0"})
    assert (finished.stdout, finished.stderr.count(b"\n")) == (b'"list"\n', 0)
    failed = call("def handler(event): raise ValueError('x')\n", *arguments)
    assert failed.stderr.startswith(b"Traceback (most recent call last):\n")


WSGI = """
def handler(environ, start_response):
    start_response("200 OK", [])
    context, seen = environ["fc.context"], {k: v for k, v in environ.items() if k.startswith("HTTP_X_")}
    assert seen.get("HTTP_X_FC_REQUEST_ID", context.request_id) == context.request_id
    yield " ".join(f"{name[7:]}={value}" for name, value in sorted(seen.items())).encode("latin-1")
"""
ASGI = """
async def handler(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    seen = {name.decode(): value.decode() for name, value in scope["headers"] if name.startswith(b"x-")}
    assert seen.get("x-fc-request-id", scope["aws.context"].request_id) == scope["aws.context"].request_id
    body = " ".join(f"{name.upper()[2:].replace('-', '_')}={value}" for name, value in sorted(seen.items()))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body.encode()})
"""


@pytest.mark.parametrize("source", [WSGI, ASGI], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("how", [(), ("--concurrency", "2")], ids=["alone", "several at once"])
def test_http_functions_get_function_computes_headers(
    call: Any, tmp_path: Path, source: str, how: tuple[str, ...]
) -> None:
    credentials = {"access_key_id": "key", "access_key_secret": "secret", "security_token": "token"}
    (tmp_path / "context.json").write_text(json.dumps({"credentials": credentials, "account_id": "17"}))
    arguments = ("-q", "--request", "/", "-H", "X-Fc-Region: forged", "--context", "context.json", *how)
    found = call(source, "--platform", "fc", *arguments)
    assert found.returncode == 0, found.stderr
    for each in ("ACCESS_KEY_ID=key", "SECURITY_TOKEN=token", "ACCOUNT_ID=17", "FUNCTION_NAME=function"):
        assert f"FC_{each}" in found.stdout.decode().split(" ")
    assert "FC_REGION=forged" in found.stdout.decode().split(" ")
    assert call(source, *arguments).stdout == b"FC_REGION=forged"


class TestTrace:
    SOURCE = (
        "import os\nBEFORE = os.environ.get('_X_AMZN_TRACE_ID')\n"
        "def handler(event, context):\n    return [BEFORE, os.environ.get('_X_AMZN_TRACE_ID')]\n"
        "async def later(event, context):\n    return handler(event, context)\n"
    )

    @pytest.mark.parametrize("handler", ["index.handler", "index.later"])
    def test_each_request_has_its_own_or_none(self, tmp_path: Path, handler: str) -> None:
        with RuntimeProcess(tmp_path, self.SOURCE) as runtime:
            runtime.start(handler, platform="lambda")
            traces = (None, W3C, W3C[:-1] + "0", None, "no trace", W3C)
            found = [runtime.call(**({} if trace is None else {"trace": trace})) for trace in traces]
            other = XRAY[:-1] + "0"
            assert found == [[None, None], [None, XRAY], [None, other], [None, None], [None, None], [None, XRAY]]

    @pytest.mark.parametrize(
        ("hello", "expected"),
        [
            ({}, [None, None]),
            ({"platform": "fc"}, [None, None]),
            ({"platform": "lambda", "concurrency": 2}, [None, None]),
            ({"platform": "lambda", "environment": {"_X_AMZN_TRACE_ID": "own"}}, ["own", "own"]),
        ],
    )
    def test_where_it_is_not_the_runtimes_to_set(
        self, tmp_path: Path, hello: dict[str, Any], expected: list[str | None]
    ) -> None:
        with RuntimeProcess(tmp_path, self.SOURCE) as runtime:
            runtime.start(**hello)
            assert runtime.call(trace=W3C) == expected

    def test_a_worker_of_a_template_has_none_of_its_rehearsal(self, call: Any, tmp_path: Path) -> None:
        finished = call(self.SOURCE, "-q", "--events", "-", "--isolation", "request", stdin=b"{}\n")
        assert json.loads(finished.stdout) == [None, None]
        (tmp_path / "context.json").write_text(json.dumps({"trace": XRAY}))
        finished = call(
            self.SOURCE, "-q", "--events", "-", "--isolation", "request", "--context", "context.json", stdin=b"{}\n"
        )
        assert json.loads(finished.stdout) == [None, XRAY]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, VERSION), ({"AWS_EXECUTION_ENV": "mine"}, "mine"), ({"AWS_EXECUTION_ENV": ""}, VERSION)],
)
def test_the_runtime_says_which_python_it_is(tmp_path: Path, environment: dict[str, str], expected: str) -> None:
    source = "import os\ndef handler(event, context):\n    return os.environ.get('AWS_EXECUTION_ENV')\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start(platform="lambda", environment=environment)
        assert runtime.call() == expected
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start(platform="another")
        assert runtime.call() is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--platform", "azure"), "'azure' is not one of 'lambda', 'fc', 'none'"),
        (("--name", ""), "--name: '' is not 1 to 1024 printable characters."),
        (("--region", "a\nb"), "--region: 'a\\nb' is not 1 to 1024 printable characters."),
        (("--name", "x" * 1025), "is not 1 to 1024 printable characters."),
    ],
)
def test_what_is_no_value(call: Any, arguments: tuple[str, ...], says: str) -> None:
    finished = call("", *arguments)
    assert finished.returncode == 2 and says in finished.stderr.decode()


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "\x7f"])
def test_the_context_file_has_nothing_that_a_variable_cannot_hold(call: Any, tmp_path: Path, text: str) -> None:
    for content in ({"name": text}, {"service": {"qualifier": text}}, {"credentials": {"access_key_id": text}}):
        (tmp_path / "context.json").write_text(json.dumps(content))
        finished = call("def handler(event): pass", "--context", "context.json")
        assert finished.returncode == 2 and b"has a control character in it." in finished.stderr
