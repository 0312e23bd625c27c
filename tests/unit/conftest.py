"""Fixtures for pure tests: in this folder, a test that starts a process or sleeps fails. See `pure`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

FORBIDDEN = frozenset(
    (
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "subprocess.Popen",
    )
)
"""The audit events (sys.addaudithook) that a pure test must not cause."""

_found: list[str] | None = None
"""The forbidden things that the running test has tried. It is None while no test of this folder runs."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _found is not None and event in FORBIDDEN:
        _refuse(event, *arguments)


def _sleep(seconds: float) -> NoReturn:
    _refuse("time.sleep", seconds)


def _refuse(call: str, *arguments: object) -> NoReturn:
    assert _found is not None
    _found.append(f"{call}{arguments!r}"[:200])
    raise AssertionError(f"a test in tests/unit must not call {call}; such a test belongs in tests/process")


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def pure(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fail a test that starts a process or sleeps, even if the code under test handles the error that says so."""
    global _found
    _found = tried = []
    monkeypatch.setattr(time, "sleep", _sleep)
    yield tried
    _found = None
    if tried:
        pytest.fail("not a pure test: " + ", ".join(tried), pytrace=False)
