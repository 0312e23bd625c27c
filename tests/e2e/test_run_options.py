"""Tests of every option of `pipe-init run` and its variable: its effect on the function, the log and the errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from pipe_init.cli.run import run
from pipe_testing import modes
from pipe_testing.command import PipeInit
from pipe_testing.shown import UUID, error, lines, shown, variable

MODES = modes.ON_REQUEST


REPORT = rf"REPORT RequestId: ({UUID})\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: \d+ MB\t"


MEASURED = r"Max Memory Used: \d+ MB\tCPU Time: \d+\.\d\d ms\tInit Duration: \d+\.\d\d ms\t"


EFFECTS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    # option: (value, expression, the expression's result, further arguments)
    "code_dir": ("{folder}", "os.getcwd() == r'{folder}'", "true", ()),
    "env": ("SOME=value", "os.environ['SOME']", '"value"', ()),
    "env_file": ("{folder}/variables", "os.environ['FROM_FILE']", '"1 = 1"', ()),
    "timeout": ("7.2", "context.function.timeout", "8", ()),
    "memory": ("333", "context.memory_limit_in_mb", '"333"', ()),
    "layer": ("{folder}/layer", "os.path.relpath(sys.path[1], r'{folder}')", '"layer/python"', ()),
    "name": ("shop", "[context.function_name, os.environ['AWS_LAMBDA_FUNCTION_NAME']]", '["shop", "shop"]', ()),
    "region": ("eu-2", "[context.region, os.environ['AWS_DEFAULT_REGION']]", '["eu-2", "eu-2"]', ()),
    "platform": ("none", "'AWS_REGION' in os.environ", "false", ()),
    "context": ("{folder}/context.json", "context.function_name + context.region", '"named eu-1"', ()),
}


SEEN_ELSEWHERE = {
    "bytes": "test_bytes_in_a_result",
    "python": "test_python_of_a_virtual_environment",
    "event": "test_event_options_by_variable",
    "event_file": "test_event_options_by_variable",
    "events": "test_event_options_by_variable",
    "raw": "test_event_options_by_variable",
    "start_timeout": "test_exit_code_124_of_a_module_that_does_not_finish_loading",
    "log_style": "test_log_styles",
    "error_style": "test_error_styles",
    "quiet": "test_quiet",
    "grace": "test_values_are_checked_wherever_they_come_from",
    "type": "test_values_are_checked_wherever_they_come_from",
    "workers": "test_values_are_checked_wherever_they_come_from",
    "isolation": "test_values_are_checked_wherever_they_come_from",
    "start_method": "test_values_are_checked_wherever_they_come_from",
    "max_requests": "test_values_are_checked_wherever_they_come_from",
    "max_growth": "test_values_are_checked_wherever_they_come_from",
    "unordered": "test_wrong_usage",
    "concurrency": "test_values_are_checked_wherever_they_come_from",
    "log_level": "test_values_are_checked_wherever_they_come_from",
    "initializer": "test_wrong_usage",
    "pre_stop": "test_wrong_usage",
    "pre_freeze": "test_wrong_usage",
    "request": "test_wrong_usage",
    "header": "test_wrong_usage",
    "include": "test_wrong_usage",
    "spin": "test_values_are_checked_wherever_they_come_from",
    "pids": "test_values_are_checked_wherever_they_come_from",
    "cpu_time": "test_values_are_checked_wherever_they_come_from",
    "cpus": "test_values_are_checked_wherever_they_come_from",
    "open_files": "test_values_are_checked_wherever_they_come_from",
    "file_size": "test_values_are_checked_wherever_they_come_from",
    "output_limit": "test_values_are_checked_wherever_they_come_from",
    "log_limit": "test_values_are_checked_wherever_they_come_from",
    "cgroup": "test_what_cannot_be_had",
}


def test_every_option_has_its_variable_and_a_test() -> None:
    options = {parameter.name: parameter for parameter in run.params if isinstance(parameter, click.Option)}
    assert {name: parameter.envvar for name, parameter in options.items()} == {
        name: variable(str(name)) for name in options
    }
    assert set(options) == EFFECTS.keys() | SEEN_ELSEWHERE.keys()
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].glob("*/test_*.py"))
    for test in SEEN_ELSEWHERE.values():
        assert f"def {test}(" in tests


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("by", ["option", "variable"])
def test_options(pipe_init: PipeInit, show: Path, tmp_path: Path, name: str, by: str) -> None:
    value, expression, result, further = EFFECTS[name]
    (show / "variables").write_text("# a comment\n\nFROM_FILE=1 = 1\n")
    (show / "context.json").write_text('{"name": "named ", "region": "eu-1"}')
    (show / "layer" / "python").mkdir(parents=True)
    value, expression = value.format(folder=show), expression.format(folder=show)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    arguments = ["run", "index.handler", "-q", "-e", shown(expression), *further]
    given = ["--" + name.replace("_", "-"), value] if by == "option" else []
    env = {} if by == "option" else {variable(name): value}
    finished = pipe_init(*arguments, *given, cwd=elsewhere if name == "code_dir" else show, env=env)
    assert finished.stdout.decode() == result + "\n", finished.stderr


@pytest.mark.parametrize(
    ("env", "stdin", "stdout"),
    [
        ({"PIPE_INIT_EVENT": "[1]"}, b"", b'"list [1]"\n'),
        ({"PIPE_INIT_EVENT_FILE": "-"}, b"[2]", b'"list [2]"\n'),
        ({"PIPE_INIT_EVENTS": "-"}, b"[3]\n4", b'"list [3]"\n"int 4"\n'),
        ({"PIPE_INIT_EVENT": "[5]", "PIPE_INIT_RAW": "1"}, b"", b"bytes b'[5]'"),
    ],
)
def test_event_options_by_variable(
    pipe_init: PipeInit, show: Path, env: Mapping[str, str], stdin: bytes, stdout: bytes
) -> None:
    finished = pipe_init("run", "index.kind", "-q", cwd=show, env=env, stdin=stdin)
    assert (finished.returncode, finished.stdout) == (0, stdout)


def test_command_line_is_stronger_than_variables(pipe_init: PipeInit, show: Path) -> None:
    env = {"PIPE_INIT_EVENTS": "nowhere", "PIPE_INIT_EVENT": "1", "PIPE_INIT_TIMEOUT": "3"}
    finished = pipe_init("run", "index.handler", "-q", "-t", "60", "-f", "-", cwd=show, env=env, stdin=b'{"show": "6"}')
    assert (finished.returncode, finished.stdout) == (0, b"6\n")


def test_bytes_in_a_result(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(
        "import base64\n"
        "def handler(event, context):\n"
        "    return {'body': base64.b64encode(b'image'), b'key': bytes.fromhex(event['hex'])}\n"
        "def whole(event, context):\n"
        "    return b'\\xff'\n"
    )
    event = ("-q", "-e", '{"hex": "c3a9"}')
    finished = pipe_init("run", "index.handler", *event, cwd=tmp_path)
    assert (finished.returncode, finished.stdout.decode()) == (0, '{"body": "aW1hZ2U=", "key": "é"}\n')
    finished = pipe_init("run", "index.handler", "-q", "-e", '{"hex": "ff"}', cwd=tmp_path)
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert b"'utf-8' codec can't decode byte 0xff in position 0: invalid start byte: result[bytes]" in finished.stderr
    for arguments, env in ((("--bytes", "base64"), {}), ((), {"PIPE_INIT_BYTES": "base64"})):
        finished = pipe_init("run", "index.whole", "-q", *arguments, cwd=tmp_path, env=env)
        assert finished.stdout == b'{"base64": "/w=="}\n'


def test_log_styles(pipe_init: PipeInit, show: Path) -> None:
    for env, arguments in (({}, ("--log-style", "fc")), ({"PIPE_INIT_LOG_STYLE": "fc"}, ())):
        start, own, end, report = lines(pipe_init("run", "index.quick", *arguments, cwd=show, env=env))
        identifier = start.removeprefix("FC Invoke Start RequestId: ")
        assert re.fullmatch(UUID, identifier)
        assert (own, end) == ("a line of the function", f"FC Invoke End RequestId: {identifier}")
        assert re.fullmatch(REPORT + MEASURED, report)


@pytest.mark.parametrize("arguments", [(), ("--log-style", "auto")])
@pytest.mark.parametrize(("limit", "memory"), [((), r"\d+"), (("-m", "256"), r"\d+ of 256")])
def test_by_default_one_line_follows_an_event(
    pipe_init: PipeInit, show: Path, arguments: tuple[str, ...], limit: tuple[str, ...], memory: str
) -> None:
    measured = rf"\d+\.\d\d ms, memory {memory} MB, init \d+\.\d\d ms"
    own, line = lines(pipe_init("run", "index.quick", *arguments, *limit, cwd=show))
    assert own == "a line of the function"
    assert re.fullmatch(rf"pipe-init: {UUID} done in {measured}", line)
    line, failure = lines(pipe_init("run", "index.fail", *arguments, *limit, cwd=show))
    found = re.fullmatch(rf"pipe-init: ({UUID}) failed after {measured}", line)
    assert found and found[1] == json.loads(failure)["requestId"]


def test_log_style_fc_says_that_it_failed(pipe_init: PipeInit, show: Path) -> None:
    end = lines(pipe_init("run", "index.fail", "--log-style", "fc", cwd=show))[1]
    assert re.fullmatch(rf"FC Invoke End RequestId: {UUID}, Error: Unhandled function error", end)


def test_log_style_lambda(pipe_init: PipeInit, show: Path) -> None:
    start, own, end, report = lines(pipe_init("run", "index.quick", "--log-style", "lambda", cwd=show))
    identifier = start.removeprefix("START RequestId: ").removesuffix(" Version: $LATEST")
    assert (own, end) == ("a line of the function", f"END RequestId: {identifier}")
    found = re.fullmatch(REPORT + MEASURED, report)
    assert found and found[1] == identifier


def test_log_style_json(pipe_init: PipeInit, show: Path) -> None:
    finished = pipe_init("run", "index.quick", cwd=show, env={"PIPE_INIT_LOG_STYLE": "json"})
    start, own, end, report = lines(finished)
    records = [json.loads(line) for line in (start, end, report)]
    assert [record["type"] for record in records] == ["platform.start", "platform.runtimeDone", "platform.report"]
    assert len({record["record"]["requestId"] for record in records}) == 1
    line = json.loads(own)
    assert (line["message"], line["stream"]) == ("a line of the function", "stdout")
    assert line["requestId"] == records[0]["record"]["requestId"]
    assert records[1]["record"]["status"] == "success"
    assert records[2]["record"]["metrics"].keys() >= {"durationMs", "billedDurationMs", "maxMemoryUsedMB", "cpuMs"}


@pytest.mark.parametrize("arguments", [("--log-style", "none"), ("-q",), ("--quiet",)])
def test_quiet(pipe_init: PipeInit, show: Path, arguments: tuple[str, ...]) -> None:
    finished = pipe_init("run", "index.quick", *arguments, cwd=show)
    assert (finished.stdout, finished.stderr) == (b'"done"\n', b"a line of the function\n")
    finished = pipe_init("run", "index.fail", *arguments, cwd=show)
    assert [json.loads(line)["errorType"] for line in lines(finished)] == ["ValueError"]


def test_quiet_by_variable(pipe_init: PipeInit, show: Path) -> None:
    assert pipe_init("run", "index.quick", cwd=show, env={"PIPE_INIT_QUIET": "1"}).stderr == b"a line of the function\n"


def test_error_styles(pipe_init: PipeInit, show: Path) -> None:
    place = (f"{show}/index.py", 11, "fail", 'raise ValueError("it is broken")')
    text = f'  File "{place[0]}", line {place[1]}, in {place[2]}\n    {place[3]}\n'
    as_text = f"Traceback (most recent call last):\n{text}ValueError: it is broken\n"
    for style, stack in (("auto", [text]), ("lambda", [text]), ("fc", [list(place)])):
        finished = pipe_init("run", "index.fail", "-q", "--error-style", style, cwd=show)
        given = error(finished)
        assert re.fullmatch(UUID, str(given.pop("requestId")))
        assert given == {"errorMessage": "it is broken", "errorType": "ValueError", "stackTrace": stack}
    assert pipe_init("run", "index.fail", "-q", "--error-style", "text", cwd=show).stderr.decode() == as_text
    assert (
        pipe_init("run", "index.fail", "-q", cwd=show, env={"PIPE_INIT_ERROR_STYLE": "text"}).stderr.decode() == as_text
    )


@pytest.mark.parametrize(("env", "coloured"), [({}, False), ({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_for_terminals_unless_forced(
    pipe_init: PipeInit, show: Path, env: Mapping[str, str], coloured: bool
) -> None:
    finished = pipe_init("run", "index.fail", "-q", "--error-style", "text", cwd=show, env=env)
    assert finished.stderr.startswith(b"\x1b[31m") == coloured
    assert finished.stderr.endswith(b"\x1b[0m\n") == coloured


def test_no_colour_is_stronger_than_force_colour(pipe_init: PipeInit, show: Path) -> None:
    env = {"NO_COLOR": "1", "FORCE_COLOR": "1"}
    assert b"\x1b" not in pipe_init("run", "index.fail", "-q", "--error-style", "text", cwd=show, env=env).stderr
