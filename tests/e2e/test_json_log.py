"""Tests of the JSON log style: each line on stderr is one JSON object, from the function or from pipe-init."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from pipe_init.log.journal import INFO, Journal
from pipe_init.log.json_lines import json_line
from pipe_testing.command import Finished, PipeInit, popen
from pipe_testing.patience import HANGS

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

CODE = """
import os

def handler(event, context):
    print("printed")
    os.write(2, b"from below\\n")
    exec(event)
    return event
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.py").write_text(CODE)
    return tmp_path


def objects(stderr: bytes) -> list[dict[str, Any]]:
    """Return the lines decoded. Each must be an object with a time."""
    found = [json.loads(line) for line in stderr.splitlines()]
    for entry in found:
        assert isinstance(entry, dict) and MOMENT.fullmatch(entry.get("time") or entry["timestamp"]), entry
    return found


def messages(finished: Finished) -> list[tuple[str, str]]:
    """Return level and message of pipe-init's own lines, after checking the form of all other lines."""
    return [
        (entry["level"], entry["message"])
        for entry in objects(finished.stderr)
        if "message" in entry and "level" in entry
    ]


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("pass", ()),
        ("1 / 0", ()),
        ("1 / 0", ("--error-style", "text")),
        ("1 / 0", ("--error-style", "fc", "-q")),
        ("os._exit(3)", ()),
        ("os.kill(os.getpid(), 9)", ("--log-style", "json", "-q")),
        ("while True: pass", ("-t", "0.3")),
        ("print('x' * 100_000)", ("--log-limit", "1")),
        ("import json; json.loads(event)", ()),
        ("print('a\\u2028b')", ()),
    ],
)
def test_of_a_single_event(pipe_init: PipeInit, folder: Path, code: str, arguments: tuple[str, ...]) -> None:
    command = ("run", "index.handler", "-e", json.dumps(code), "--log-style", "json", *arguments)
    assert objects(pipe_init(*command, cwd=folder).stderr)


@pytest.mark.parametrize(
    ("arguments", "env", "code"),
    [
        (("index.handler", "-e", "{", "--log-style", "json"), {}, 2),
        (("index.handler", "-e", "{", "--log-style=json", "-q"), {}, 2),
        (("index.handler", "--nonsense", "--log-style", "json"), {}, 2),
        (("index.handler", "--nonsense", "--log-style", "JSON"), {}, 2),
        (("index.handler", "-t", "x"), {"PIPE_INIT_LOG_STYLE": "Json"}, 2),
        (("index.handler", "-f", "nowhere", "-e", "1"), {"PIPE_INIT_LOG_STYLE": "json"}, 2),
    ],
)
def test_of_wrong_usage(
    pipe_init: PipeInit, folder: Path, arguments: tuple[str, ...], env: dict[str, str | None], code: int
) -> None:
    finished = pipe_init("run", *arguments, cwd=folder, env=env)
    ((level, message),) = messages(finished)
    assert (finished.returncode, level) == (code, "ERROR") and "Error: " in message


def test_wrong_usage_is_text_otherwise(pipe_init: PipeInit, folder: Path) -> None:
    assert pipe_init("run", "index.handler", "-e", "{", cwd=folder).stderr.startswith(b"Usage: ")


def test_where_only_the_functions_variable_asks_for_it(pipe_init: PipeInit, folder: Path) -> None:
    finished = pipe_init("run", "index.handler", "-E", "AWS_LAMBDA_LOG_FORMAT=JSON", "-e", '"1 / 0"', cwd=folder)
    found = objects(finished.stderr)
    assert {"printed", "from below"} <= {entry.get("message") for entry in found}
    assert found[-1]["errorType"] == "ZeroDivisionError"
    (line,) = (entry for entry in found if entry.get("level") == "INFO")
    assert " failed after " in line["message"] and line["requestId"] == found[-1]["requestId"]


def test_of_a_run_that_ends_early(pipe_init: PipeInit, folder: Path) -> None:
    finished = pipe_init("run", "index.nothing", "--events", "-", "--log-style", "json", cwd=folder, stdin=b"1\n2\n")
    assert finished.returncode == 3
    last = messages(finished)[-1]
    assert last[0] == "WARN" and last[1].startswith("pipe-init: the run ended early: ")


def test_the_summary_on_a_terminal(pipe_init: PipeInit, folder: Path) -> None:
    (folder / "events").write_text('"pass"\n"1 / 0"\n')
    arguments = ("run", "index.handler", "--events", "events")
    env = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
    person, program = os.openpty()
    try:
        with popen(pipe_init, *arguments, cwd=folder, stderr=program, env=env) as process:
            assert process.wait(HANGS) == 1
        seen = os.read(person, 65536).replace(b"\r\n", b"\n")
    finally:
        os.close(program)
        os.close(person)
    last = objects(re.sub(rb"\r\x1b\[K[^\r\n{]*", b"", seen))[-1]
    assert (last["level"], last["message"].split("\n")[1]) == ("INFO", "pipe-init: failed: 1 ZeroDivisionError")


class TestJournal:
    def test_what_was_dropped_is_told_in_json(self) -> None:
        reader, writer = os.pipe()
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            journal = Journal(full, cap=5, json_line=json_line)
            journal.request_id = lambda id: f"r{id}"
            journal.tell("lost")
            os.dup2(writer, full)
            journal.from_function(b'{"message": "too long"}', id=7)
            journal.request_over(7)
            journal.tell("one\ntwo", INFO, "r8")
            found = objects(os.read(reader, 65536))
        finally:
            for descriptor in (reader, writer, full):
                os.close(descriptor)
        lost, dropped, own = found
        assert lost["level"] == "WARN" and " bytes of the log could not be written" in lost["message"]
        assert dropped["level"] == "WARN" and dropped["requestId"] == "r7" and "were dropped" in dropped["message"]
        assert (own["level"], own["message"], own["requestId"]) == ("INFO", "one\ntwo", "r8")
