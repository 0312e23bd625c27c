"""Tests of the JSON style of the log in a real runtime: each line is an object, whatever the function logs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from pipe_runtime.log import json_records
from pipe_testing.bodies import RECORD
from pipe_testing.runtime import RuntimeProcess

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def printed(message: bytes, request_id: str = "r-1") -> dict[str, Any]:
    """Return the JSON of a printed line."""
    return dict(json.loads(json_records.printed_line(message, "stdout", request_id)))


SOURCE = """
import logging, os, sys
log = logging.getLogger("shop")
def handler(event, context):
    print("printed")
    print("part", file=sys.stderr, end="")
    log.warning("two\\nlines", extra={"order": {"id": 7}, "odd": object})
    log.debug("hidden")
    context.log("by hand")
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("failed")
    if not os.fork():
        print("in a child")
        log.warning("logged there")
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("hello", [{"log_format": "json"}, {"environment": {"AWS_LAMBDA_LOG_FORMAT": "JSON"}}])
def test_a_function(tmp_path: Path, hello: dict[str, Any]) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('the function has a json.py, and it is not ours')\n")
    with RuntimeProcess(tmp_path, dedent(SOURCE)) as runtime:
        runtime.start(**hello)
        assert runtime.lines == []
        runtime.call()
        lines = runtime.lines
        assert runtime.stop() == 0
    assert [(line.id, line.metadata["stream"], line.metadata.get("level")) for line in lines] == [
        (1, "stdout", None),
        (1, "log", "WARNING"),
        (1, "log", None),
        (1, "log", "ERROR"),
        (1, "stderr", None),
    ]
    said = [json.loads(line.payload) for line in lines]
    assert all(MOMENT.fullmatch(each["timestamp"]) and each["requestId"] == "r-1" for each in said)
    assert [each["message"] for each in said] == ["printed", "two\nlines", "by hand", "failed", "part"]
    assert (said[1]["logger"], said[1]["order"], said[1]["odd"]) == ("shop", {"id": 7}, "<class 'object'>")
    assert said[1]["location"] == f"{tmp_path}/index.py:handler:7"
    assert (said[3]["errorType"], said[3]["errorMessage"]) == ("ZeroDivisionError", "division by zero")
    assert len(said[3]["stackTrace"]) == 3
    # The init turns the lines on fd 2 into objects.
    printed, logged = runtime.log.decode().splitlines()
    assert printed == "in a child" and re.fullmatch(RECORD % ("WARNING", "logged there"), logged)


LEVELS = """
import logging, sys
logging.addLevelName(35, "NOTICE")
logging.addLevelName(5, "TRACE")
logging.addLevelName(99, "PANIC")
logging.getLogger().setLevel(1)
def handler(event, context):
    for level in 1, 5, 10, 15, 20, 35, 40, 45, 50, 60, 99:
        logging.log(level, {"level": level})
    logging.log(True, "is an int")
"""


def test_custom_levels_are_shown_as_lambda_shows_them(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, LEVELS) as runtime:
        runtime.start(log_format="json")
        runtime.call()
        shown = {str(found["message"]): found["level"] for found in map(json.loads, runtime.logged("log"))}
        names = [line.metadata["level"] for line in runtime.lines]
    names_of = {1: "NOTSET", 5: "NOTSET", 10: "DEBUG", 15: "DEBUG", 20: "INFO", 35: "WARNING", 40: "ERROR"}
    names_of.update({45: "ERROR", 50: "CRITICAL", 60: "CRITICAL", 99: "CRITICAL"})
    assert shown == {str({"level": level}): name for level, name in names_of.items()} | {"is an int": "NOTSET"}
    assert {"TRACE", "NOTICE", "PANIC"} <= set(names)


FORMATTERS = """
import json, logging
class Lines(logging.Formatter):
    def format(self, record):
        return json.dumps({"said": record.getMessage()}, indent=2)
handler_of_ours = logging.getLogger().handlers[0]
def handler(event, context):
    handler_of_ours.setFormatter(Lines())
    logging.warning("an object")
    handler_of_ours.setFormatter(logging.Formatter("%(levelname)s\\n%(message)s"))
    logging.warning("a text")
"""


def test_a_formatter_of_the_functions_own_gives_objects_too(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, FORMATTERS) as runtime:
        runtime.start(log_format="json")
        runtime.call()
        first, second = (json.loads(text) for text in runtime.logged("log"))
    assert MOMENT.fullmatch(first.pop("timestamp")) and MOMENT.fullmatch(second.pop("timestamp"))
    same = {"level": "WARNING", "stream": "log", "requestId": "r-1"}
    assert first == {**same, "said": "an object"}
    assert second == {**same, "message": "WARNING\na text"}


def test_a_record_that_cannot_be_formatted_is_reported(tmp_path: Path) -> None:
    source = "import logging\ndef handler(event, context):\n    logging.info('%d', 'x')\n"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start(log_format="json")
        runtime.call()
        said = [json.loads(line)["message"] for text in runtime.logged("stderr") for line in text.splitlines()]
    assert "--- Logging error ---" in said and "Traceback (most recent call last):" in said
    assert "TypeError: %d format: a real number is required, not str" in said
    assert not [line for line in said if "pipe_runtime" in line]


def test_a_configuration_of_the_functions_own_prints(tmp_path: Path) -> None:
    source = """
    import logging
    logging.basicConfig(format="mine: %(message)s")
    def handler(event, context):
        logging.info("x")
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start(log_format="json")
        runtime.call()
        [said] = [json.loads(text) for text in runtime.logged()]
    assert (said["message"], said["stream"], said["requestId"]) == ("mine: x", "stderr", "r-1")
