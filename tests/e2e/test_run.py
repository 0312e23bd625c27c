"""`pipe-init run` as its users have it: the command line, real functions, stdout byte for byte.

What a function may be and do comes first, then every option with its variable, then what is wrong usage, then the exit
codes. JSON Lines are in test_run_events.py.
"""

from __future__ import annotations

import json
import os
import platform
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import click
import pytest

from pipe_init.cli.run import run
from pipe_init.cli.runs.event_input import MAX_EVENT
from pipe_init.model import MAX_PAYLOAD
from pipe_testing import modes
from pipe_testing.command import Finished, PipeInit, popen
from pipe_testing.environment import unmeasured
from pipe_testing.tools import require

MODES = modes.ON_REQUEST

FUNCTIONS = Path(__file__).parents[1] / "functions"
EXAMPLES = Path(__file__).parents[2] / "examples"

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
REPORT = rf"REPORT RequestId: ({UUID})\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: \d+ MB\t"
MEASURED = r"Max Memory Used: \d+ MB\tCPU Time: \d+\.\d\d ms\tInit Duration: \d+\.\d\d ms\t"

SHOW = """
import os, sys, time

def handler(event, context):
    return eval(event["show"], {"os": os, "sys": sys, "time": time, "context": context})

def kind(event, context):
    return f"{type(event).__name__} {event}"

def fail(event, context):
    raise ValueError("it is broken")

def quick(event, context):
    print("a line of the function")
    return "done"
"""

WRONG = """
import os, signal, sys

def handler(event, context):
    exec(event["do"], globals())
"""


@pytest.fixture
def show(tmp_path: Path) -> Path:
    """A folder whose index.handler evaluates what the event says."""
    (tmp_path / "index.py").write_text(SHOW)
    (tmp_path / "wrong.py").write_text(WRONG)
    return tmp_path


def shown(expression: str) -> str:
    """The event that has index.handler evaluate an expression."""
    return json.dumps({"show": expression})


def lines(finished: Finished) -> list[str]:
    """What went to stderr."""
    return finished.stderr.decode().splitlines()


def error(finished: Finished) -> dict[str, object]:
    """The error object, which is stderr's last line."""
    found = json.loads(lines(finished)[-1])
    assert isinstance(found, dict)
    return found


# Functions as users have them


def test_result_is_all_there_is_on_stdout(pipe_init: PipeInit) -> None:
    finished = pipe_init("run", "index.handler", "-e", '{"name": "you"}', cwd=EXAMPLES / "hello")
    assert (finished.returncode, finished.stdout) == (0, b'"hello you"\n')


def test_noise_of_every_kind_goes_to_stderr(pipe_init: PipeInit, require_tool: Callable[[str], str]) -> None:
    require_tool("ps")
    finished = pipe_init("run", "index.handler", "--log-style", "fc", "-C", str(FUNCTIONS / "noisy"))
    assert (finished.returncode, finished.stdout) == (0, b'{"squares": [0, 1, 4, 9]}\n'), finished.stderr
    heard = lines(finished)
    identifier = re.fullmatch(rf"FC Invoke Start RequestId: ({UUID})", heard[1])
    assert identifier, heard
    for line in (
        "printed while loading",
        "printed by the handler",
        "from a subprocess",
        "from os.write",
        "from the buffer",
        "from __stdout__",
        "to stderr",
        "no line break at the end",
        *(f"printed by child {number}" for number in range(4)),
        *(f"written by child {number}" for number in range(4)),
    ):
        assert heard.count(line) == 1, line
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    logged = [line for line in heard if line.startswith("[")]
    assert re.fullmatch(rf"\[INFO\]\t{stamp}\t{identifier[1]}\tlogged by the handler", logged[0])
    assert re.fullmatch(rf"\[WARNING\]\t{stamp}\t{identifier[1]}\ttwo", logged[1])
    assert heard[heard.index(logged[1]) + 1] == "lines"
    assert any("PID" in line and "CMD" in line for line in heard), "no list of processes"
    assert any(line.startswith("d") and line.endswith(" usr") for line in heard), "no list of /"
    assert heard[-2] == f"FC Invoke End RequestId: {identifier[1]}"
    assert heard[-1].startswith(f"REPORT RequestId: {identifier[1]}\t")


def test_function_gets_its_own_modules_of_names_that_pipe_init_uses(pipe_init: PipeInit) -> None:
    names = [f"{name} of the function" for name in ("init", "click", "token", "json", "msgpack")]
    expected = {"found": names, "version": [0, 0, 1], "day": "2026-01-31", "bytes": {"base64": "AA=="}}
    finished = pipe_init(
        "run", "index.handler", "-q", "--bytes", "base64", cwd=FUNCTIONS / "shadowing", env=only_unmeasured()
    )
    assert (finished.stdout, finished.stderr) == (json.dumps(expected).encode() + b"\n", b"")
    assert finished.returncode == 0


def test_error_of_a_function_with_such_modules(pipe_init: PipeInit) -> None:
    folder = FUNCTIONS / "shadowing"
    finished = pipe_init("run", "index.handler", "-q", "-e", '{"fail": true}', cwd=folder, env=only_unmeasured())
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert error(finished)["errorType"] == "ValueError"
    assert f'  File "{folder}/index.py", line 15, in handler\n' in str(error(finished)["stackTrace"][0])  # type: ignore[index]


def test_package_with_relative_imports(pipe_init: PipeInit) -> None:
    arguments = ("run", "greetings.index.handler", "-C", str(EXAMPLES / "package"), "-e", '{"name": "Ada"}')
    finished = pipe_init(*arguments)
    assert (finished.returncode, finished.stdout) == (0, b'"Hello, Ada!"\n')
    assert "languages: de, en, fr" in lines(finished)


def test_lambda_style(pipe_init: PipeInit) -> None:
    event = '{"orders": [{"id": 7, "amount": 3}]}'
    finished = pipe_init(
        "run", "index.handler", "-m", "256", "--log-style", "lambda", "-e", event, cwd=EXAMPLES / "lambda_style"
    )
    assert (finished.returncode, finished.stdout) == (0, b'{"done": [7], "total": 3, "memory": "256"}\n')
    start = re.fullmatch(rf"START RequestId: ({UUID}) Version: \$LATEST", lines(finished)[0])
    assert start
    assert lines(finished)[1].endswith(f"\t{start[1]}\trequest {start[1]}: 1 orders")


def test_lambda_style_remaining_time_is_below_the_timeout(pipe_init: PipeInit, show: Path) -> None:
    event = shown("context.get_remaining_time_in_millis()")
    finished = pipe_init("run", "index.handler", "-t", "40", "-e", event, cwd=show)
    assert 0 < int(finished.stdout) <= 40_000


def test_fc_style_with_raw(pipe_init: PipeInit) -> None:
    event = '{"bucket": "b", "object": "o"}'
    finished = pipe_init("run", "index.handler", "--raw", "--region", "eu-1", "-e", event, cwd=EXAMPLES / "fc_style")
    assert (finished.returncode, finished.stdout) == (0, b'{"copied": "b/o", "by": "function", "signed": false}\n')
    assert lines(finished)[0].endswith("\tcopying b/o in eu-1")


RESULTS = {
    "'äöü 日本語 😀 \\u2028'": '"äöü 日本語 😀 \u2028"',
    "'line\\nbreak \\x1b \\0'": '"line\\nbreak \\u001b \\u0000"',
    "'lone \\udcff'": '"lone \\udcff"',
    "None": "null",
    "float('nan')": "NaN",
    "[float('inf'), -float('inf')]": "[Infinity, -Infinity]",
    "__import__('decimal').Decimal('1.50')": "1.50",
    "__import__('datetime').datetime(2026, 1, 31, 12, 0, 1)": '"2026-01-31T12:00:01"',
    "__import__('datetime').date(2026, 1, 31)": '"2026-01-31"',
    "2 ** 100": str(2**100),
    "{1: b'\\xc3\\xa9', None: {3, 1, 2}}": '{"1": "é", "null": [1, 2, 3]}',
}


def test_results_of_every_kind(pipe_init: PipeInit, show: Path) -> None:
    events = "\n".join(shown(result) for result in RESULTS)
    finished = pipe_init("run", "index.handler", "-q", "--events", "-", cwd=show, stdin=events.encode())
    expected = [line.replace("\u2028", "\\u2028") for line in RESULTS.values()]  # some readers take it for a line end
    assert finished.stdout.decode().split("\n") == [*expected, ""]
    assert (finished.returncode, finished.stderr) == (0, b"")


@pytest.mark.parametrize("result", ["None", "'äöü 日本語 😀 \\u2028'", "float('nan')"])
def test_result_of_one_event_is_a_line(pipe_init: PipeInit, show: Path, result: str) -> None:
    finished = pipe_init("run", "index.handler", "-q", "-e", shown(result), cwd=show)
    assert finished.stdout.decode() == RESULTS[result] + "\n"
    assert (finished.returncode, finished.stderr) == (0, b"")


def test_result_of_ten_megabytes(pipe_init: PipeInit, show: Path) -> None:
    finished = pipe_init("run", "index.handler", "-q", "-e", shown("'äx' * 5_000_000"), cwd=show)
    assert finished.stdout == '"{}"\n'.format("äx" * 5_000_000).encode()


def test_result_that_is_larger_than_a_frame(pipe_init: PipeInit, show: Path) -> None:
    finished = pipe_init("run", "index.handler", "-q", "-e", shown("'x' * 17 * 2**20"), cwd=show)
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert finished.stdout == b'"' + b"x" * 17 * 2**20 + b'"\n'


@pytest.mark.parametrize(
    ("result", "written"),
    [
        ("b'\\xff\\x00 bytes'", b"\xff\x00 bytes"),
        ("bytearray(b'\\n')", b"\n"),
        ("'text, no quotes'", b"text, no quotes"),
        ("{'a': 1}", b'{"a": 1}'),
        ("None", b"null"),
        ("b''", b""),
    ],
)
def test_raw_results_go_out_as_they_are(pipe_init: PipeInit, tmp_path: Path, result: str, written: bytes) -> None:
    (tmp_path / "index.py").write_text(f"def handler(event, context):\n    return {result}\n")
    finished = pipe_init("run", "index.handler", "--raw", "-q", cwd=tmp_path)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, written, b"")


def test_result_that_cannot_be_encoded(pipe_init: PipeInit, show: Path) -> None:
    finished = pipe_init("run", "index.handler", "-q", "-e", shown("{'a': [object()]}"), cwd=show)
    assert (finished.returncode, finished.stdout) == (1, b"")
    assert error(finished)["errorType"] == "Runtime.MarshalError"
    assert "Object of type object is not JSON serializable: result.a[0]" in str(error(finished)["errorMessage"])


# The event


@pytest.mark.parametrize(
    ("arguments", "stdin", "plain", "raw"),
    [
        ((), b"not read", "dict {}", "bytes b'{}'"),
        (("-e", " [1] "), b"", "list [1]", "bytes b' [1] '"),
        (("--event", '"ä"'), b"", "str ä", "bytes b'\"\\xc3\\xa4\"'"),
        (("-f", "event.json"), b"", "list [2]", "bytes b'[2]\\n'"),
        (("--event-file", "event.json"), b"", "list [2]", "bytes b'[2]\\n'"),
        (("-f", "-"), b"[3]", "list [3]", "bytes b'[3]'"),
        (("--events", "event.json"), b"", "list [2]", "bytes b'[2]'"),
        (("--events", "-"), b"[4]", "list [4]", "bytes b'[4]'"),
    ],
)
def test_where_the_event_comes_from(
    pipe_init: PipeInit, show: Path, arguments: tuple[str, ...], stdin: bytes, plain: str, raw: str
) -> None:
    (show / "event.json").write_text("[2]\n")
    finished = pipe_init("run", "index.kind", "-q", *arguments, cwd=show, stdin=stdin)
    assert finished.stdout.decode() == json.dumps(plain, ensure_ascii=False) + "\n"
    finished = pipe_init("run", "index.kind", "-q", "--raw", *arguments, cwd=show, stdin=stdin)
    assert finished.stdout.decode() == raw + ("\n" if "--events" in arguments else "")


def test_raw_takes_what_is_not_json_nor_text(pipe_init: PipeInit) -> None:
    data = bytes(range(256))
    finished = pipe_init("run", "index.handler", "-q", "--raw", "-f", "-", cwd=EXAMPLES / "echo", stdin=data)
    assert (finished.returncode, finished.stdout) == (0, data)


def test_raw_without_text_is_no_bytes(pipe_init: PipeInit, show: Path) -> None:
    finished = pipe_init("run", "index.kind", "-q", "--raw", "-e", "", cwd=show)
    assert finished.stdout == b"bytes b''"


def test_byte_order_mark_before_an_event_is_no_part_of_it(pipe_init: PipeInit) -> None:
    finished = pipe_init("run", "index.handler", "-q", "-f", "-", cwd=EXAMPLES / "echo", stdin=b"\xef\xbb\xbf[1]")
    assert finished.stdout == b"[1]\n"


def test_event_as_large_as_may_be(pipe_init: PipeInit, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text("def handler(event, context):\n    return len(event)\n")
    with open(tmp_path / "event", "wb") as file:
        file.truncate(MAX_PAYLOAD)
    finished = pipe_init("run", "index.handler", "--raw", "-q", "-f", "event", cwd=tmp_path)
    assert (finished.returncode, finished.stdout) == (0, str(MAX_PAYLOAD).encode())


def test_stdin_is_not_touched_unless_asked_for(pipe_init: PipeInit) -> None:
    with popen(pipe_init, "run", "index.handler", "-q", cwd=EXAMPLES / "hello", stdin=subprocess.PIPE) as process:
        assert process.wait(60) == 0  # while nobody has ended its stdin


# Every option, and its variable

EFFECTS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    # option: (value, expression, what it gives, further arguments)
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


def variable(name: str) -> str:
    """An option's environment variable."""
    return f"PIPE_INIT_{name.upper()}"


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
    finished = pipe_init("run", "index.handler", "-q", "-t", "5", "-f", "-", cwd=show, env=env, stdin=b'{"show": "6"}')
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


# The function's environment


def environment_of(pipe_init: PipeInit, show: Path, *arguments: str, env: Mapping[str, str]) -> dict[str, str]:
    """The variables that a function sees."""
    finished = pipe_init("run", "index.handler", "-q", "-e", shown("dict(os.environ)"), *arguments, cwd=show, env=env)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("arguments", [(), ("-E", "LC_TIME=C")], ids=["early worker", "worker of its own"])
def test_platform_variables_are_removed_but_for_those_that_functions_read(
    pipe_init: PipeInit, show: Path, arguments: tuple[str, ...]
) -> None:
    kept = """FC_FUNC_CODE_PATH FC_FUNCTION_MEMORY_SIZE FC_RUNTIME_VERSION FC_ACCOUNT_ID FC_FUNCTION_HANDLER
        FC_FUNCTION_NAME FC_SERVICE_NAME FC_VER_ID FC_QUALIFIER FC_REGION FC_INSTANCE_ID""".split()
    gone = ["FC_SECRET", "_FC_ANYTHING", "FC_ACCESS_KEY_ID", "FC_"]
    env = {**dict.fromkeys(kept, "kept"), **dict.fromkeys(gone, "gone"), "OTHER_FC_": "other"}
    seen = environment_of(pipe_init, show, *arguments, env=env)
    assert sorted(name for name in seen if name.startswith(("FC_", "_FC_"))) == sorted(kept)
    assert seen["OTHER_FC_"] == "other"


def test_platform_variables_that_are_given_are_there(pipe_init: PipeInit, show: Path) -> None:
    assert environment_of(pipe_init, show, "-E", "FC_SECRET=wanted", env={"FC_SECRET": "ours"})["FC_SECRET"] == "wanted"


def test_variables_come_from_files_then_options_the_last_one_counts(pipe_init: PipeInit, show: Path) -> None:
    (show / "one").write_text("A=file one\nB=file one\nC=file one\nOURS\n")
    (show / "two").write_text("B=file two\nC=file two\n")
    arguments = ("--env-file", "one", "-E", "C=option", "--env-file", "two", "-E", "D=", "-E", "E=1", "-E", "E=2=3")
    seen = environment_of(pipe_init, show, *arguments, "-E", "FC_OURS", env={"OURS": "ours", "FC_OURS": "passed on"})
    names = ("A", "B", "C", "D", "E", "OURS", "FC_OURS")
    assert [seen[name] for name in names] == ["file one", "file two", "option", "", "2=3", "ours", "passed on"]


def test_many_variables_and_odd_bytes_get_through(pipe_init: PipeInit, show: Path) -> None:
    long = "é" * 40_000
    assert environment_of(pipe_init, show, "-E", f"LONG={long}", env={})["LONG"] == long
    event = shown("list(os.environb[b'ODD'])")
    odd = os.fsdecode(b"ODD=\xff\x01")
    assert pipe_init("run", "index.handler", "-q", "-e", event, "-E", odd, cwd=show).stdout == b"[255, 1]\n"


def test_time_zone_is_there_from_the_start(pipe_init: PipeInit, show: Path) -> None:
    event = shown("time.localtime(0).tm_hour")
    assert pipe_init("run", "index.handler", "-q", "-e", event, "-E", "TZ=XYZ-9", cwd=show).stdout == b"9\n"


def test_hash_seed_is_there_from_the_start(pipe_init: PipeInit, show: Path) -> None:
    code = "print(hash('some text'))"
    seeded = {**unmeasured(), "PYTHONHASHSEED": "7"}
    expected = subprocess.run([sys.executable, "-c", code], env=seeded, capture_output=True, check=True).stdout
    event = shown("hash('some text')")
    assert pipe_init("run", "index.handler", "-q", "-e", event, "-E", "PYTHONHASHSEED=7", cwd=show).stdout == expected


def test_loader_variables_are_there_from_the_start(pipe_init: PipeInit, show: Path) -> None:
    require(platform.libc_ver()[0] == "glibc", "needs glibc, whose loader has LD_DEBUG")
    finished = pipe_init("run", "index.quick", "-q", "-E", "LD_DEBUG=statistics", cwd=show)
    assert finished.stdout == b'"done"\n'
    assert b"runtime linker statistics" in finished.stderr


# Other interpreters


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing in it: neither pipe-init nor msgpack."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, env=unmeasured())
    return folder


IMPORTS = """
import sys

def handler(event, context):
    try:
        import msgpack
    except ImportError as error:
        found = str(error)
    else:
        found = msgpack.NAME
    return [sys.prefix, list(sys.version_info[:2]), found]
"""


def only_unmeasured() -> dict[str, str | None]:
    """For pipe_init(env=…): without what starts coverage in a child."""
    return dict.fromkeys(os.environ.keys() - unmeasured().keys(), None)


@pytest.mark.parametrize("form", ["folder", "program", "relative", "variable"])
def test_python_of_a_virtual_environment(pipe_init: PipeInit, bare: Path, tmp_path: Path, form: str) -> None:
    (tmp_path / "index.py").write_text(IMPORTS)
    program = bare / "bin" / "python"
    given = {"folder": bare, "program": program, "relative": os.path.relpath(bare, tmp_path)}
    arguments = ["--python", str(given[form])] if form in given else []
    env = {**only_unmeasured(), "PIPE_INIT_PYTHON": None if arguments else str(program)}
    finished = pipe_init("run", "index.handler", "-q", *arguments, cwd=tmp_path, env=env)
    expected = [str(bare), list(sys.version_info[:2]), "No module named 'msgpack'"]
    assert json.loads(finished.stdout or b"null") == expected, finished.stderr


def test_function_gets_the_msgpack_of_its_own_interpreter(pipe_init: PipeInit, bare: Path, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text(IMPORTS)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    python = bare / "bin" / "python"
    place = subprocess.run([python, "-c", code], env=unmeasured(), capture_output=True, check=True, text=True)
    module = Path(place.stdout.strip()) / "msgpack.py"
    module.write_text("NAME = 'the one of this environment'\n")
    try:
        finished = pipe_init("run", "index.handler", "-q", "--python", str(bare), cwd=tmp_path, env=only_unmeasured())
    finally:
        module.unlink()
    assert json.loads(finished.stdout)[2] == "the one of this environment"


def other_interpreters() -> Iterator[tuple[Path, tuple[int, int]]]:
    """Interpreters of other versions, on PATH or beside the one that runs this."""
    beside = Path(sys.base_prefix).parent.glob("*/bin/python3")
    named = (Path(folder) / f"python3.{minor}" for folder in os.get_exec_path() for minor in range(6, 16))
    seen = {sys.version_info[:2]}
    for path in [*beside, *named]:
        if not os.access(path, os.X_OK):
            continue
        asked = subprocess.run(
            [path, "-c", "import sys; print(*sys.version_info[:2])"], env=unmeasured(), capture_output=True, check=False
        )
        if asked.returncode == 0:
            major, minor = map(int, asked.stdout.split())
            if (major, minor) not in seen:
                seen.add((major, minor))
                yield path, (major, minor)


def test_python_of_another_version_runs_on_msgpack_without_its_c_code(pipe_init: PipeInit, tmp_path: Path) -> None:
    found = next((item for item in other_interpreters() if item[1] >= (3, 10)), None)
    require(found, "needs another Python, 3.10 or newer, than the one that runs the tests")
    assert found is not None
    (tmp_path / "index.py").write_text(IMPORTS)
    finished = pipe_init("run", "index.handler", "-q", "--python", str(found[0]), cwd=tmp_path, env=only_unmeasured())
    assert json.loads(finished.stdout or b"null")[1] == list(found[1]), finished.stderr


def test_python_that_is_too_old_is_told_so(pipe_init: PipeInit, tmp_path: Path) -> None:
    # Few machines have one that old; where there is none, this one says that it is.
    pretends = tmp_path / "python3.9"
    code = (
        "import runpy, sys; sys.version_info = 3, 9, 2; del sys.argv[0]; runpy.run_path(sys.argv[0], None, '__main__')"
    )
    pretends.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    pretends.chmod(0o755)
    old = next((str(path) for path, version in other_interpreters() if version < (3, 10)), str(pretends))
    (tmp_path / "index.py").write_text(IMPORTS)
    finished = pipe_init("run", "index.handler", "-q", "--python", old, cwd=tmp_path, env=only_unmeasured())
    assert (finished.returncode, finished.stdout) == (3, b"")
    assert "is too old, 3.10 or newer is needed" in finished.stderr.decode()


def test_safe_path_does_not_hide_the_runtime(pipe_init: PipeInit, show: Path, bare: Path) -> None:
    arguments = ("--python", str(bare), "-E", "PYTHONSAFEPATH=1", "-E", "PYTHONPATH=")
    finished = pipe_init("run", "index.quick", "-q", *arguments, cwd=show, env=only_unmeasured())
    assert finished.stdout == b'"done"\n', finished.stderr


def test_python_that_is_missing(pipe_init: PipeInit, show: Path) -> None:
    (show / "empty").mkdir()
    for path in ("nowhere", "./nowhere", "empty"):
        finished = pipe_init("run", "index.quick", "-q", "--python", path, cwd=show)
        assert (finished.returncode, finished.stdout) == (127, b"")
        assert str(error(finished)["errorMessage"]).startswith("Cannot execute ")
        assert path.removeprefix("./") in str(error(finished)["errorMessage"])


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_python_that_cannot_be_executed(pipe_init: PipeInit, show: Path, mode: int) -> None:
    program = show / "program"
    program.write_text("neither a binary nor a script")
    program.chmod(mode)
    finished = pipe_init("run", "index.quick", "-q", "--python", str(program), cwd=show)
    assert (finished.returncode, finished.stdout) == (126, b"")
    assert f"Cannot execute {program}: " in str(error(finished)["errorMessage"])


# Wrong usage: exit 2, and words that say what, where, and what to do


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument 'HANDLER'."),
        (("index.quick", "-e", "{bad"), "The event in --event is not JSON: Expecting property name"),
        (("index.quick", "-e", "{bad"), "(--raw takes any text.)"),
        (("index.quick", "-e", ""), "The event in --event is not JSON: Expecting value"),
        (("index.quick", "-e", "[" * 100_000), "The event in --event is not JSON"),
        (("index.quick", "-e", '"\udcff"'), "The event in --event is not JSON: 'utf-8' codec can't decode"),
        (("index.quick", "-f", "index.py"), "The event in 'index.py' is not JSON"),
        (("index.quick", "-f", "utf16"), "The event in 'utf16' is not JSON: 'utf-8' codec can't decode"),
        (("index.quick", "-f", "-"), "The event in stdin is not JSON: Expecting value"),
        (("index.quick", "-f", "nowhere"), "Cannot read 'nowhere': No such file or directory."),
        (("index.quick", "-f", "."), "Cannot read '.': Is a directory."),
        (("index.quick", "-f", "huge"), f"The event in 'huge' has more than {MAX_EVENT} bytes."),
        (("index.quick", "--events", "nowhere"), "Cannot read 'nowhere': No such file or directory."),
    ],
)
def test_wrong_usage(pipe_init: PipeInit, show: Path, arguments: tuple[str, ...], says: str) -> None:
    """Of events; that of options is in test_wrong_usage.py."""
    (show / "utf16").write_bytes("1".encode("utf-16"))
    with open(show / "huge", "wb") as file:
        file.truncate(MAX_EVENT + 1)
    finished = pipe_init("run", *arguments, cwd=show)
    assert (finished.returncode, finished.stdout) == (2, b"")
    usage, hint, empty, message = lines(finished)
    assert usage == "Usage: pipe-init run [OPTIONS] HANDLER"
    assert hint == "Try 'pipe-init run -h' for help."
    assert message.startswith("Error: ")
    assert says in message


def test_unknown_command_and_none(pipe_init: PipeInit) -> None:
    finished = pipe_init("walk")
    assert (finished.returncode, finished.stdout) == (2, b"")
    assert lines(finished)[-1] == "Error: No such command 'walk'."
    finished = pipe_init()
    assert (finished.returncode, finished.stdout) == (2, b"")
    assert lines(finished)[0] == "Usage: pipe-init [OPTIONS] COMMAND [ARGS]..."
    assert finished.stderr.count(b"Usage:") == 1


# Help


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(pipe_init: PipeInit, option: str) -> None:
    finished = pipe_init("run", option)
    assert (finished.returncode, finished.stderr) == (0, b"")
    text = finished.stdout.decode()
    for parameter in run.params:
        assert all(name in text for name in parameter.opts if name.startswith("-"))
    headings = re.findall(r"^([A-Z]\w+):$", text, re.MULTILINE)
    assert headings == ["Function", "Event", "HTTP", "Limits", "Speed", "Output", "Help", "Examples"]
    assert "<=x" not in text
    assert "PIPE_INIT_LOG_STYLE" in text
    assert pipe_init(option).stdout.startswith(b"Usage: pipe-init [OPTIONS] COMMAND [ARGS]...\n")


def test_version(pipe_init: PipeInit) -> None:
    finished = pipe_init("--version")
    assert (finished.returncode, finished.stderr) == (0, b"")
    pattern = r"pipe-init \d+\.\d+\.\d+\S*, protocol 1, Python {} \(.+\), msgpack [\d.]+ \((C|pure Python)\)\n"
    assert re.fullmatch(pattern.format(re.escape(platform.python_version())), finished.stdout.decode())


def test_as_a_module(pipe_init: PipeInit) -> None:
    command = [sys.executable, "-m", "pipe_init", "run", "index.handler", "-q"]
    finished = subprocess.run(
        command, cwd=EXAMPLES / "hello", env=pipe_init.environment(), capture_output=True, check=False
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b'"hello world"\n', b"")


# Exit codes

PROGRAMS: dict[str, tuple[str, int, str, str]] = {
    # name: (what the handler does, exit code, error type, part of the message)
    "raises": ("raise KeyError('k')", 1, "KeyError", "'k'"),
    "sys.exit": ("sys.exit(7)", 1, "SystemExit", "7"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", 1, "KeyboardInterrupt", ""),
    "MemoryError": ("raise MemoryError('no')", 1, "MemoryError", "no"),
    "os._exit": ("os._exit(7)", 1, "Runtime.ExitError", "Runtime exited with error: exit status 7"),
    "os._exit(0)": ("os._exit(0)", 1, "Runtime.ExitError", "Runtime exited with error: exit status 0"),
    "SIGKILL": ("os.kill(os.getpid(), 9)", 137, "Runtime.ExitError", "Runtime exited with error: signal: killed"),
    "SIGTERM": ("os.kill(os.getpid(), 15)", 143, "Runtime.ExitError", "signal: terminated"),
    "SIGABRT": ("os.abort()", 134, "Runtime.ExitError", "signal: aborted"),
    "SIGSEGV": ("os.kill(os.getpid(), 11)", 139, "Runtime.ExitError", "signal: segmentation fault"),
    "garbage": (
        "for descriptor in range(5, 64):\n try: os.write(descriptor, b'\\xff' * 64)\n except OSError: pass",
        4,
        "Runtime.ProtocolError",
        "The runtime broke the protocol: a frame of 4294967295 bytes",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_exit_codes_of_functions_that_fail(pipe_init: PipeInit, show: Path, name: str) -> None:
    do, code, error_type, message = PROGRAMS[name]
    finished = pipe_init("run", "wrong.handler", "-q", "-e", json.dumps({"do": do}), cwd=show)
    assert (finished.returncode, finished.stdout) == (code, b""), finished.stderr
    assert error(finished)["errorType"] == error_type
    assert message in str(error(finished)["errorMessage"])


@pytest.mark.parametrize(
    ("handler", "error_type"),
    [
        ("nowhere.handler", "Runtime.ImportModuleError"),
        ("index.nothing", "Runtime.HandlerNotFound"),
        ("index", "Runtime.MalformedHandlerName"),
        ("", "Runtime.MalformedHandlerName"),
        ("os.getcwd", "Runtime.BuiltInModuleConflict"),
        ("syntax.handler", "Runtime.UserCodeSyntaxError"),
        ("raising.handler", "ZeroDivisionError"),
        ("exiting.handler", "SystemExit"),
        ("dying.handler", "Runtime.ExitError"),
    ],
)
def test_exit_code_3_of_handlers_that_cannot_be_loaded(
    pipe_init: PipeInit, show: Path, handler: str, error_type: str
) -> None:
    (show / "syntax.py").write_text("def handler(event, context):\n    return (\n")
    (show / "raising.py").write_text("1 / 0\n")
    (show / "exiting.py").write_text("raise SystemExit(0)\n")
    (show / "dying.py").write_text("import os\nos._exit(5)\n")
    finished = pipe_init("run", handler, "-q", cwd=show)
    assert (finished.returncode, finished.stdout) == (3, b"")
    assert error(finished)["errorType"] == error_type


def test_exit_code_124_names_where_it_hangs(pipe_init: PipeInit, show: Path) -> None:
    event = json.dumps({"do": "while True: signal.pause()"})
    finished = pipe_init("run", "wrong.handler", "-q", "-t", "0.3", "-e", event, cwd=show)
    assert (finished.returncode, finished.stdout) == (124, b"")
    assert error(finished)["errorType"] == "Sandbox.Timedout"
    assert str(error(finished)["errorMessage"]).endswith("Error: Task timed out after 0.30 seconds")
    assert f'  File "{show}/wrong.py", line 5, in handler' in str(error(finished)["stackTrace"])


@pytest.mark.parametrize("do", ["signal.signal(15, signal.SIG_IGN)", "signal.signal(15, lambda *_: os._exit(0))"])
def test_exit_code_124_whatever_ends_it(pipe_init: PipeInit, show: Path, do: str) -> None:
    event = json.dumps({"do": f"{do}\nwhile True: signal.pause()"})
    arguments = ("run", "wrong.handler", "-q", "-t", "0.3", "--grace", "0.1", "-e", event)
    assert pipe_init(*arguments, cwd=show).returncode == 124


@pytest.mark.parametrize("by", ["option", "variable"])
def test_exit_code_124_of_a_module_that_does_not_finish_loading(pipe_init: PipeInit, tmp_path: Path, by: str) -> None:
    (tmp_path / "index.py").write_text("import signal\nsignal.pause()\n")
    arguments = ("--start-timeout", "0.4") if by == "option" else ()
    env = {} if arguments else {"PIPE_INIT_START_TIMEOUT": "0.4"}
    finished = pipe_init("run", "index.handler", "-q", *arguments, cwd=tmp_path, env=env)
    assert (finished.returncode, finished.stdout) == (124, b"")
    assert "The function was not ready after 0.40 seconds" in str(error(finished)["errorMessage"])


def test_exit_code_137_of_memory_says_so(pipe_init: PipeInit, show: Path) -> None:
    do = "data = bytearray(b'x') * (116 * 2**20)\nos.kill(os.getpid(), 9)"
    finished = pipe_init(
        "run", "wrong.handler", "-q", "-m", "128", "-e", json.dumps({"do": do}), cwd=show, env=only_unmeasured()
    )
    assert (finished.returncode, finished.stdout) == (137, b"")
    assert error(finished)["errorType"] == "Runtime.OutOfMemory"
    assert re.search(
        r"out of memory: it may allocate 128 MB, and had \d+ MB resident", str(error(finished)["errorMessage"])
    )


def test_memory_error_that_is_raised_is_an_answer(pipe_init: PipeInit, show: Path) -> None:
    event = json.dumps({"do": "bytearray(2**30)"})
    finished = pipe_init("run", "wrong.handler", "-q", "-m", "256", "-e", event, cwd=show)
    assert (finished.returncode, error(finished)["errorType"]) == (1, "MemoryError")


def read_rest(stream: IO[bytes], limit: float = 30.0) -> bytes:
    """All that comes until the end. Fails instead of waiting for ever."""
    data = b""
    while True:
        assert select.select([stream], [], [], limit)[0], f"no end after {data!r}"
        piece = os.read(stream.fileno(), 65536)
        if not piece:
            return data
        data += piece


def wait_for_line(stream: int, line: bytes, limit: float = 30.0) -> None:
    """Read until this line has come."""
    data = b""
    while line + b"\n" not in data:
        assert select.select([stream], [], [], limit)[0], f"{line!r} did not come after {data!r}"
        piece = os.read(stream, 4096)
        assert piece, f"{line!r} did not come before the end of {data!r}"
        data += piece


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda value: str(value),
)
def test_exit_code_of_an_interrupted_run(pipe_init: PipeInit, show: Path, number: int, code: int) -> None:
    event = json.dumps({"do": "print('ready')\nsignal.pause()"})
    arguments = ("run", "wrong.handler", "-q", "--grace", "0.1", "-e", event)
    with popen(pipe_init, *arguments, cwd=show) as process:
        assert process.stderr is not None and process.stdout is not None
        wait_for_line(process.stderr.fileno(), b"ready")
        process.send_signal(number)
        rest = read_rest(process.stderr)
        assert read_rest(process.stdout) == b""
        assert process.wait(60) == code
    assert json.loads(rest)["errorType"] == "Runtime.Stopped"


def test_exit_code_141_when_nobody_reads_stdout(pipe_init: PipeInit) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with popen(pipe_init, "run", "index.handler", "-q", cwd=EXAMPLES / "hello", stdout=writer) as process:
            assert process.stderr is not None
            assert read_rest(process.stderr) == b""
            assert process.wait(60) == 141
    finally:
        os.close(writer)


def test_result_that_cannot_be_written(pipe_init: PipeInit) -> None:
    require(os.path.exists("/dev/full"), "needs /dev/full")
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with popen(pipe_init, "run", "index.handler", "-q", cwd=EXAMPLES / "hello", stdout=full) as process:
            assert process.stderr is not None
            assert (
                read_rest(process.stderr)
                == b"Error: The result cannot be written to stdout: No space left on device.\n"
            )
            assert process.wait(60) == 1
    finally:
        os.close(full)


@pytest.mark.parametrize("option", ["-f", "--events"])
def test_an_input_that_cannot_be_read(pipe_init: PipeInit, show: Path, option: str) -> None:
    unreadable = os.open(os.devnull, os.O_WRONLY)
    try:
        with popen(pipe_init, "run", "index.quick", "-q", option, "-", cwd=show, stdin=unreadable) as process:
            assert process.stdout is not None and process.stderr is not None
            said = read_rest(process.stderr).decode()
            assert read_rest(process.stdout) == b""
            assert process.wait(60) == 2
    finally:
        os.close(unreadable)
    source = "stdin" if option == "-f" else "'-' any further"
    assert said.splitlines()[-1] == f"Error: Cannot read {source}: Bad file descriptor."


def test_from_a_folder_that_is_gone(pipe_init: PipeInit, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    finished = subprocess.run(
        ["sh", "-c", 'cd "$1" && rmdir "$1" && exec "$2" -m pipe_init --version', "sh", str(folder), sys.executable],
        env=pipe_init.environment(unmeasured()),
        capture_output=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, b"")


def test_nobody_reads_stderr(pipe_init: PipeInit, show: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with popen(pipe_init, "run", "index.quick", cwd=show, stderr=writer) as process:
            assert process.stdout is not None
            assert read_rest(process.stdout) == b'"done"\n'
            assert process.wait(60) == 0
    finally:
        os.close(writer)


def test_closed_standard_descriptors(pipe_init: PipeInit, show: Path) -> None:
    command = 'exec "$@" <&- 2>&-'
    finished = subprocess.run(
        ["sh", "-c", command, "sh", *pipe_init.command, "run", "index.quick"],
        cwd=show,
        env=pipe_init.environment(),
        stdout=subprocess.PIPE,
        check=False,
    )
    assert (finished.returncode, finished.stdout) == (0, b'"done"\n')


@pytest.mark.parametrize("arguments", [("-e", "1"), ("--events", "-")], ids=["one", "events"])
def test_a_log_that_cannot_be_written_costs_no_result(
    pipe_init: PipeInit, show: Path, arguments: tuple[str, ...]
) -> None:
    command = [*pipe_init.command, "run", "index.quick", *arguments]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command,
            cwd=show,
            env=pipe_init.environment(),
            input=b"1\n",
            stdout=subprocess.PIPE,
            stderr=full,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, b'"done"\n')
