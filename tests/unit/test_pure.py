"""Tests of the check that tests in this folder start no process and do not sleep."""

from __future__ import annotations

import os
import subprocess
import time

import pytest


def test_a_process_is_refused(pure: list[str]) -> None:
    with pytest.raises(AssertionError, match=r"must not call subprocess\.Popen"):
        subprocess.run(["true"], check=False)
    with pytest.raises(AssertionError, match=r"must not call os\.fork"):
        os.fork()
    assert len(pure) == 2
    pure.clear()


def test_a_sleep_is_refused(pure: list[str]) -> None:
    with pytest.raises(AssertionError, match=r"must not call time\.sleep"):
        time.sleep(0)
    assert len(pure) == 1
    pure.clear()
