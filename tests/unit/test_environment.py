"""Tests of the function's variables: from pairs, from files, and those that act only when a process starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipe_init.cli.function.describe import acts_at_exec, read_env_file, read_variables
from pipe_init.cli.options.usage_errors import UsageError


class TestPairs:
    @pytest.mark.parametrize(
        ("pair", "name", "value"),
        [
            ("A=1", "A", "1"),
            ("A=", "A", ""),
            ("A=b=c", "A", "b=c"),
            ("A= b ", "A", " b "),
            ('A="b"', "A", '"b"'),
            ("A=$HOME", "A", "$HOME"),
            ("a.b-c=1", "a.b-c", "1"),
            ("Ä=ö", "Ä", "ö"),
            ("A=line\nline", "A", "line\nline"),
        ],
    )
    def test_a_value_is_taken_literally(self, pair: str, name: str, value: str) -> None:
        assert read_variables([], [pair]) == {name: value}

    def test_a_name_alone_has_our_own_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIPE_TEST_A", "ours")
        assert read_variables([], ["PIPE_TEST_A"]) == {"PIPE_TEST_A": "ours"}

    def test_a_name_alone_that_is_not_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PIPE_TEST_A", raising=False)
        with pytest.raises(UsageError, match="--env: there is no variable PIPE_TEST_A to pass on"):
            read_variables([], ["PIPE_TEST_A"])

    @pytest.mark.parametrize("pair", ["", "=1", " A=1", "A =1", "\tA", "A\0=1", "A=\0"])
    def test_what_is_no_variable(self, pair: str) -> None:
        with pytest.raises(UsageError, match="is not NAME=VALUE"):
            read_variables([], [pair])

    def test_the_last_one_wins(self) -> None:
        assert read_variables([], ["A=1", "B=2", "A=3"]) == {"A": "3", "B": "2"}

    def test_none(self) -> None:
        assert read_variables([], []) == {}


class TestFile:
    def test_pairs_names_comments_and_blank_lines(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIPE_TEST_A", "ours")
        file = tmp_path / "env"
        file.write_text("# a comment\n\nA=1 # no comment\n  B='2'  \nPIPE_TEST_A\n   # another\nC=\n", encoding="utf-8")
        assert read_env_file(str(file)) == {"A": "1 # no comment", "B": "'2'", "PIPE_TEST_A": "ours", "C": ""}

    def test_windows_line_ends(self, tmp_path: Path) -> None:
        file = tmp_path / "env"
        file.write_bytes(b"A=1\r\nB=2\r\n")
        assert read_env_file(str(file)) == {"A": "1", "B": "2"}

    def test_a_byte_order_mark(self, tmp_path: Path) -> None:
        file = tmp_path / "env"
        file.write_bytes(b"\xef\xbb\xbfA=1\n")
        assert read_env_file(str(file)) == {"A": "1"}

    def test_a_line_for_a_shell(self, tmp_path: Path) -> None:
        file = tmp_path / "env"
        file.write_text("export A=1\n")
        with pytest.raises(UsageError) as caught:
            read_env_file(str(file))
        assert str(caught.value).endswith("line 1: 'export A=1' is for a shell; without 'export' it is NAME=VALUE.")

    def test_an_empty_file(self, tmp_path: Path) -> None:
        file = tmp_path / "env"
        file.touch()
        assert read_env_file(str(file)) == {}

    def test_a_bad_line_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "env"
        file.write_text("# first\n\n=1\n")
        with pytest.raises(UsageError) as caught:
            read_env_file(str(file))
        assert str(caught.value) == f"--env-file {file}, line 3: '=1' is not NAME=VALUE."

    def test_a_name_alone_that_is_not_set(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PIPE_TEST_A", raising=False)
        file = tmp_path / "env"
        file.write_text("PIPE_TEST_A\n")
        with pytest.raises(UsageError, match="line 1: there is no variable PIPE_TEST_A"):
            read_env_file(str(file))

    @pytest.mark.parametrize("what", ["missing", "folder", "not text"])
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, what: str) -> None:
        path, reason = {
            "missing": (tmp_path / "missing", "No such file or directory"),
            "folder": (tmp_path, "Is a directory"),
            "not text": (tmp_path / "binary", "it is not UTF-8 text"),
        }[what]
        (tmp_path / "binary").write_bytes(b"A=\xff\n")
        with pytest.raises(UsageError) as caught:
            read_env_file(str(path))
        assert str(caught.value) == f"--env-file: cannot read {str(path)!r}: {reason}."


class TestActsAtExec:
    @pytest.mark.parametrize(
        "name",
        ["PYTHONPATH", "PYTHONHASHSEED", "LD_PRELOAD", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LC_ALL", "LANG"],
    )
    def test_what_interpreter_and_libc_read_when_they_start(self, name: str) -> None:
        assert acts_at_exec({"A": "1", name: "x"})

    @pytest.mark.parametrize("name", ["PATH", "HOME", "MY_LD_PATH", "LANGUAGES", "PY", "TZ", "TZDIR", "lang"])
    def test_what_can_be_set_later(self, name: str) -> None:
        assert not acts_at_exec({name: "x"})

    def test_nothing(self) -> None:
        assert not acts_at_exec({})
