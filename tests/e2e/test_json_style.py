"""Tests of `--log-style json` for all writers: each line of stderr is one JSON object, however it was written."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipe_testing.command import PipeInit
from pipe_testing.patience import HANGS

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SOURCE = r"""
import json, logging, os, sys, warnings
def handler(event, context):
    print("a text")
    print(json.dumps({"event": "printed", "n": 1}))
    print('{"requestId": "mine", "timestamp": "then"}')
    print('{"no": NaN}')
    print("half a line", end="")
    logging.info({"event": "logged"})
    logging.getLogger("shop").warning("with\nlines", extra={"order": 7})
    warnings.warn("careful")
    sys.stdout.flush()
    if not os.fork():
        print("in a child")
        logging.warning("logged there")
        os._exit(0)
    os.wait()
    os.write(1, b"from below\n")
    os.write(1, "with\u2028other\u2029line\x85breaks\n".encode())
    raise ValueError("it is broken")
"""


def objects(stderr: bytes) -> list[dict[str, Any]]:
    """Return each line, decoded."""
    return [dict(json.loads(line)) for line in stderr.decode().splitlines()]


def error_in(stderr: bytes) -> dict[str, Any]:
    """Return the only error in these lines. A hint may follow it."""
    [line] = [line for line in stderr.splitlines() if b'"errorType"' in line]
    return dict(json.loads(line))


def test_every_line_is_an_object_with_its_time(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(SOURCE)
    ended = pipe_init("run", "index.handler", "--log-style", "json", cwd=tmp_path)
    assert ended.returncode == 1
    found = objects(ended.stderr)
    [id] = {line["record"]["requestId"] for line in found if "record" in line}
    own = [line for line in found if "record" not in line]
    assert all(MOMENT.fullmatch(line["timestamp"]) or line["requestId"] == "mine" for line in own)
    # The init may read from fd 2 before it knows that the worker has begun the request.
    assert {line.get("requestId", id) for line in own} == {id, "mine"}
    said = {str(line.get("message", line.get("event"))): line for line in own}
    assert said["printed"] == {**said["printed"], "n": 1, "stream": "stdout"}
    assert said['{"no": NaN}']["stream"] == said["a text"]["stream"] == "stdout"
    assert (said["{'event': 'logged'}"]["message"], said["{'event': 'logged'}"]["level"]) == (
        {"event": "logged"},
        "INFO",
    )
    assert (said["with\nlines"]["order"], said["with\nlines"]["logger"]) == (7, "shop")
    assert {"half a line", "from below", "in a child", "with\u2028other\u2029line\x85breaks"} <= said.keys()
    assert [text for text in said if re.fullmatch(rf"\[WARNING\]\t[^\t]+\t{id}\tlogged there", text)]
    [mine] = [line for line in own if line.get("requestId") == "mine"]
    assert mine == {"requestId": "mine", "timestamp": "then", "stream": "stdout"}


@pytest.mark.parametrize("style", ["auto", "lambda", "fc"])
@pytest.mark.parametrize("handler", ["index.handler", "missing.handler"])
def test_the_error_has_a_time_and_a_level(pipe_init: PipeInit, tmp_path: Path, style: str, handler: str) -> None:
    (tmp_path / "index.py").write_text("def handler(event, context):\n    raise ValueError('it is broken')\n")
    options = ("--log-style", "json", "--error-style", style)
    error = error_in(pipe_init("run", handler, *options, cwd=tmp_path).stderr)
    assert list(error)[:2] == ["timestamp", "level"]
    assert MOMENT.fullmatch(error["timestamp"]) and error["level"] == "ERROR"
    assert error["errorType"] in ("ValueError", "Runtime.ImportModuleError")
    assert error.keys() == {"timestamp", "level", "errorMessage", "errorType", "stackTrace", "requestId"}


def test_without_the_style_the_error_is_as_it_was(pipe_init: PipeInit, tmp_path: Path) -> None:
    error = error_in(pipe_init("run", "missing.handler", "-q", cwd=tmp_path).stderr)
    assert error.keys() == {"errorMessage", "errorType", "stackTrace", "requestId"}


@pytest.mark.unmeasured
def test_on_a_terminal_it_is_json_too(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text("def handler(event, context):\n    raise ValueError('it is broken')\n")
    terminal, own = pty.openpty()
    command = [*pipe_init.command, "run", "index.handler", "--log-style", "json"]
    try:
        subprocess.run(command, cwd=tmp_path, stderr=own, env=pipe_init.environment(), timeout=HANGS, check=False)
        os.close(own)
        said = b""
        while True:
            try:
                said += os.read(terminal, 65536)
            except OSError:  # all has been read, and no program has the terminal open
                break
    finally:
        os.close(terminal)
    found = objects(said.replace(b"\r\n", b"\n"))
    assert found[-1]["errorType"] == "ValueError" and found[-1]["level"] == "ERROR"


def test_the_functions_variable_asks_for_it_too(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(
        "import os\n"
        "def handler(event, context):\n"
        "    os.write(2, b'from below\\n')\n"
        "    print('above')\n"
        "    raise ValueError('it is broken')\n"
    )
    options = ("-q", "-E", "AWS_LAMBDA_LOG_FORMAT=JSON")
    found = objects(pipe_init("run", "index.handler", *options, cwd=tmp_path).stderr)
    assert {line.get("message") or line["errorMessage"] for line in found} == {"from below", "above", "it is broken"}
    assert found[-1]["level"] == "ERROR"
