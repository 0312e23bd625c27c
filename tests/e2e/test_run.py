"""Tests of `pipe-init run` with real functions: what a function may be and do, and where its event comes from.

stdout is compared byte for byte. Options, interpreters and exit codes are tested in files of their own, and JSON Lines
in test_run_events.py.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipe_init.model import MAX_PAYLOAD
from pipe_testing import modes
from pipe_testing.command import PipeInit, popen
from pipe_testing.patience import HANGS
from pipe_testing.shown import UUID, error, lines, only_unmeasured, shown

MODES = modes.ON_REQUEST

FUNCTIONS = Path(__file__).parents[1] / "functions"
EXAMPLES = Path(__file__).parents[2] / "examples"


# Functions as users write them


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
    expected = [line.replace("\u2028", "\\u2028") for line in RESULTS.values()]  # some readers end a line at U+2028
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
        assert process.wait(HANGS) == 0  # although its stdin is still open
