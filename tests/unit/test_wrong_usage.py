"""Tests of wrong usage of `run`: the exit code is 2, and the message says what is wrong, where, and what to do.

The command line runs in this process, since it starts nothing before all options are known to be right. That the
command itself ends like this is tested in test_run_exit_codes.py, together with wrong events.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipe_init.cli import main
from pipe_init.cli.function.checks import MAX_HANDLER

Refused = Callable[..., list[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a function that must not run, and change into it."""
    (tmp_path / "index.py").write_text("raise SystemExit('it was loaded')")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Return a function that takes arguments and returns the lines on stderr about what is wrong with them."""

    def run(*arguments: str) -> list[str]:
        code = main.main(["run", *arguments])
        out, err = capfd.readouterr()
        assert (code, out) == (2, ""), err
        return err.splitlines()

    return run


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument 'HANDLER'."),
        (("index.quick", "more"), "Got unexpected extra argument (more)"),
        (("index.quick", "--bogus"), "No such option '--bogus'."),
        (("x" * (MAX_HANDLER + 1),), f"HANDLER has {MAX_HANDLER + 1} characters; the limit is {MAX_HANDLER}."),
        (("ind\udcffex.quick",), "HANDLER: 'ind\\udcffex.quick' is not UTF-8 text"),
        (("index.quick", "-C", "nowhere"), "--code-dir: there is no folder 'nowhere'."),
        (("index.quick", "-C", "index.py"), "--code-dir: there is no folder 'index.py'."),
        (("index.quick", "-C", "x" * 5000), "--code-dir: there is no folder"),
        (("index.quick", "--events", "nowhere"), "Cannot read 'nowhere': No such file or directory."),
        (("index.quick", "--unordered"), "--unordered is for --events."),
        (("index.quick", "--isolation", "request", "--concurrency", "2"), "none do: use --workers."),
        (("index.quick", "--isolation", "request", "--max-requests", "2"), "where it is 1."),
        (("index.quick", "--isolation", "request", "--max-growth", "2"), "where no worker serves a second one."),
        (("index.quick", "--workers", "2", "--pre-freeze", "index.quick"), "--pre-freeze is for a single worker"),
        (("index.quick", "-e", "1", "-f", "-"), "--event and --event-file cannot be given together: choose one."),
        (("index.quick", "--events", "-", "-f", "-"), "--event-file and --events cannot be given together"),
        (("index.quick", "-E", "=x"), "--env: '=x' is not NAME=VALUE."),
        (("index.quick", "-E", " A=x"), "--env: ' A=x' is not NAME=VALUE."),
        (("index.quick", "-E", "NOT_THERE"), "--env: there is no variable NOT_THERE to pass on; NOT_THERE=VALUE"),
        (("index.quick", "--env-file", "pairs"), "--env-file pairs, line 3: '=x' is not NAME=VALUE."),
        (("index.quick", "--env-file", "utf16"), "--env-file: cannot read 'utf16': it is not UTF-8 text."),
        (("index.quick", "--env-file", "nowhere"), "--env-file: cannot read 'nowhere': No such file"),
        (("index.quick", "-t", "0"), "'--timeout': 0.0 is not in the range 0.001<=x<=86400.0."),
        (("index.quick", "-t", "nan"), "'--timeout': nan is not in the range 0.001<=x<=86400.0."),
        (("index.quick", "-t", "soon"), "'--timeout': 'soon' is not a number of seconds."),
        (("index.quick", "-m", "0"), "'--memory': 0 is not in the range"),
        (("index.quick", "-m", "99999999999999999999"), "'--memory': 99999999999999999999 is not in the range"),
        (("index.quick", "--log-style", "loud"), "'loud' is not one of 'auto', 'fc', 'lambda', 'json', 'none'."),
        (("index.quick", "--error-style", "loud"), "'loud' is not one of 'auto', 'text', 'lambda', 'fc'."),
        (("index.quick", "--type", "http"), "'http' is not one of 'auto', 'event', 'wsgi', 'asgi'."),
        (("index.quick", "--concurrency", "1025"), "'--concurrency': 1025 is not in the range"),
        (("index.quick", "--initializer", ""), "--initializer: the name is empty; it has HANDLER's form"),
        (("index.quick", "--pre-stop", "\udcff.x"), "--pre-stop: '\\udcff.x' is not UTF-8 text"),
        (("index.quick", "--pre-freeze", "x" * (MAX_HANDLER + 1)), f"--pre-freeze has {MAX_HANDLER + 1} characters"),
        (("index.quick", "--layer", "nowhere"), "--layer: there is no folder 'nowhere'."),
        (("index.quick", "--context", "index.py"), "--context 'index.py': it is not JSON: Expecting value"),
        (("index.quick", "--context", "-"), "--context: stdin is for events; name a file."),
        (("index.quick", "--request", "GET"), "--request: 'GET': the target is a path, which starts with a slash"),
        (("index.quick", "--request", "GET /a b"), "no blanks or control characters in the target; a blank is %20."),
        (("index.quick", "--request", "/", "--type", "event"), "are for HTTP: not with --type event."),
        (("index.quick", "-H", "X-A"), "--header: 'X-A' is not 'Name: value'."),
        (("index.quick", "-i"), "--include is for HTTP: it needs --request, --header or --type wsgi or asgi."),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_wrong_usage(refused: Refused, folder: Path, arguments: tuple[str, ...], says: str) -> None:
    (folder / "utf16").write_bytes("1".encode("utf-16"))
    (folder / "pairs").write_text("A=1\n\n=x\n")
    usage, hint, empty, message = refused(*arguments)
    assert usage == "Usage: pipe-init run [OPTIONS] HANDLER"
    assert hint == "Try 'pipe-init run -h' for help."
    assert message.startswith("Error: ")
    assert says in message


def test_folder_whose_name_is_not_text(refused: Refused, folder: Path) -> None:
    name = os.fsencode(folder) + b"/\xff"
    os.mkdir(name)
    assert "is not UTF-8 text; give it another name." in refused("index.handler", "-C", os.fsdecode(name))[-1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", "-1"),
        ("start_timeout", "nan"),
        ("grace", "-0.1"),
        ("spin", "1001"),
        ("memory", "1.5"),
        ("log_style", "x"),
        ("error_style", "x"),
        ("type", "http"),
        ("concurrency", "0"),
        ("workers", "0"),
        ("isolation", "thread"),
        ("start_method", "fork"),
        ("max_requests", "0"),
        ("max_growth", "-1"),
        ("pids", "0"),
        ("cpu_time", "0.5"),
        ("cpus", "nan"),
        ("open_files", "15"),
        ("file_size", "-1"),
        ("output_limit", "0"),
        ("log_limit", "x"),
        ("log_level", "loud"),
        ("bytes", "hex"),
    ],
)
def test_values_are_checked_wherever_they_come_from(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"PIPE_INIT_{name.upper()}", value)
    message = refused("index.handler")[-1]
    assert f"--{name.replace('_', '-')}'" in message
    assert value in message
