"""Tests of HTTP for event functions in a real runtime and with the command."""

from __future__ import annotations

import json
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from pipe_runtime.adapters.http_trigger import FC, LAMBDA
from pipe_runtime.wire.messages import END, ERROR, RESULT
from pipe_testing import tools
from pipe_testing.command import PipeInit
from pipe_testing.runtime import RuntimeProcess

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
    """Check that Mangum, an adapter for Lambda's events, gets the request that was sent."""
    tools.require(util.find_spec("mangum") is not None, "needs the package mangum")
    folder = Path(__file__).parents[2] / "examples" / "mangum"
    finished = pipe_init("run", "app.handler", "-q", "-C", str(folder), "--request", "/items/7?a=1")
    assert (finished.returncode, finished.stdout) == (0, b'{"item":7,"stage":"$default"}'), finished.stderr
    assert (
        pipe_init("run", "app.handler", "-q", "-C", str(folder), "--request", "/no").stdout == b'{"detail":"Not Found"}'
    )
