"""Tests of source lines in the init's own stacks. They come only from plain files below the function's folders."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pipe_init.cli.results import error_report
from pipe_init.cli.results.error_report import MAX_BYTES, MAX_FILES, MAX_LINE, read_lines, with_source

ALL = range(1, 1000)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Make a code directory that holds a module, with another file next to the directory."""
    folder = tmp_path / "code"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "module.py").write_text("first\n    second  \nth\xe4rd", encoding="utf-8")
    (tmp_path / "secret.py").write_text("secret\n")
    return folder


def test_a_plain_file_below_a_folder(code: Path) -> None:
    file = str(code / "package" / "module.py")
    assert read_lines(file, ALL, [str(code)]) == {1: "first", 2: "second", 3: "th\xe4rd"}
    assert read_lines(file, [2, 4], ["/nowhere", str(code)]) == read_lines(file, [2], ["/"]) == {2: "second"}
    assert read_lines(file, ALL, []) == read_lines(file, ALL, [str(code / "package" / "module")]) == {}


def test_lines_are_counted_as_python_counts_them(code: Path) -> None:
    (code / "ends.py").write_bytes("a\r\nb\rc\x0cd\u2028e\nf".encode())
    assert read_lines(str(code / "ends.py"), [2, 4], [str(code)]) == {2: "b", 4: "f"}


@pytest.mark.parametrize(
    "name",
    ["../secret.py", "package/../../secret.py", "./package/module.py", "package//module.py", "", "package", "no.py"],
)
def test_what_leads_elsewhere_is_not_read(code: Path, name: str) -> None:
    assert read_lines(f"{code}/{name}", ALL, [str(code)]) == {}


def test_a_name_that_no_file_can_have(code: Path) -> None:
    assert read_lines(f"{code}/a\0b.py", ALL, [str(code)]) == {}


def test_no_link_is_followed(code: Path) -> None:
    (code / "link.py").symlink_to(code.parent / "secret.py")
    (code / "folder").symlink_to(code.parent)
    (code / "here.py").symlink_to("package/module.py")
    for name in ("link.py", "folder/secret.py", "here.py"):
        assert read_lines(str(code / name), ALL, [str(code)]) == {}


def test_a_folder_that_is_a_link_is_the_users_choice(code: Path) -> None:
    (code.parent / "chosen").symlink_to(code)
    chosen = str(code.parent / "chosen")
    assert read_lines(chosen + "/package/module.py", ALL, [chosen])[1] == "first"


def test_what_is_no_plain_file_is_not_waited_for(code: Path) -> None:
    os.mkfifo(code / "fifo.py")
    listening = socket.socket(socket.AF_UNIX)
    with listening:
        listening.bind(str(code / "socket.py"))
        for name in ("fifo.py", "socket.py", "package"):
            assert read_lines(str(code / name), ALL, [str(code)]) == {}


def test_what_is_mounted_there_is_not_read() -> None:
    """Check with /proc, which is another file system than / and holds plain files."""
    assert Path("/proc/self/status").is_file() and os.path.ismount("/proc")
    assert read_lines("/proc/self/status", ALL, ["/"]) == {}
    assert read_lines("/proc/version", ALL, ["/proc"])


def test_a_file_that_is_too_long(code: Path) -> None:
    (code / "long.py").write_bytes(b"x\n" * (MAX_BYTES // 2))
    assert read_lines(str(code / "long.py"), [MAX_BYTES // 2], [str(code)]) == {MAX_BYTES // 2: "x"}
    (code / "long.py").write_bytes(b"x\n" * (MAX_BYTES // 2) + b"x")
    assert read_lines(str(code / "long.py"), ALL, [str(code)]) == {}


def test_no_descriptor_is_left(code: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for name in ("package/module.py", "../secret.py", "no/where.py", "package"):
        read_lines(str(code / name), ALL, [str(code)])
    assert len(os.listdir("/proc/self/fd")) == len(before)


def stack_of(problem: Any) -> Any:
    return problem["stack"]


def test_only_calls_without_a_source_line_get_one(code: Path) -> None:
    file = str(code / "package" / "module.py")
    stack: list[Any] = [
        [file, 2, "f", ""],
        [file, 1, "f", "as it was"],
        [file, 99, "f", ""],
        [file, 0, "f", ""],
        ["", 0, "no stack: it is in the kernel", ""],
        ["/etc/passwd", 1, "f", ""],
        [file + "c", 1, "f", ""],
        [1, 2],
        "text",
    ]
    found = stack_of(with_source({"stack": stack}, [str(code)]))
    assert found == [[file, 2, "f", "second"], *stack[1:7]]  # what is no call counts as missing


@pytest.mark.parametrize("problem", [{}, {"stack": "text"}, {"stack": []}, {"stack": [["x.py", 1, "f", "code"]]}])
def test_a_problem_without_such_calls_stays_as_it_is(problem: dict[str, Any]) -> None:
    assert with_source(problem, ["/"]) is problem


def test_so_many_files_and_so_much_of_a_line(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        (code / f"{number}.py").write_text("x" * 2 * MAX_LINE)
    opened: list[object] = []
    read = error_report._read
    monkeypatch.setattr(error_report, "_read", lambda *given: opened.append(given) or read(*given))
    stack = [[f"{code}/{number % 40}.py", 1, "f", ""] for number in range(80)]
    found = stack_of(with_source({"stack": stack}, [str(code)]))
    assert len(opened) == MAX_FILES
    assert [len(entry[3]) for entry in found] == ([MAX_LINE] * MAX_FILES + [0] * 24) * 2
