"""Tests of the folders from which the init imports, which it takes from sys.path."""

from __future__ import annotations

import os
import sys

import pytest

from pipe_init import module_path
from pipe_testing.installed import NEEDED

LIBRARY = os.path.dirname(os.__file__)
DYNAMIC = os.path.join(sys.base_exec_prefix, "lib", "lib-dynload")
SITE = "/venv/site-packages"


def test_what_is_needed_is_known() -> None:
    assert {*module_path.NEEDED, "pipe_init"} == set(NEEDED)


class TestCleaned:
    def test_what_is_to_be_avoided_is_taken_out(self) -> None:
        whole = ["/bin", "/for/the/program", LIBRARY, DYNAMIC, SITE]
        assert module_path.cleaned(whole, SITE, [SITE], {"/bin", "/for/the/program"}) == [LIBRARY, DYNAMIC, SITE]

    def test_the_standard_library_comes_first_wherever_it_was(self) -> None:
        assert module_path.cleaned([SITE, "/more", DYNAMIC, LIBRARY], SITE, [SITE], {SITE}) == [
            DYNAMIC,
            LIBRARY,
            SITE,
            "/more",
        ]

    @pytest.mark.parametrize("twice", [LIBRARY, DYNAMIC, SITE])
    def test_what_is_named_twice_stays(self, twice: str) -> None:
        """Check that a folder stays if PYTHONPATH names it too, or if it is the working directory as well."""
        assert module_path.cleaned([LIBRARY, DYNAMIC, SITE], SITE, [SITE], {twice}) == [LIBRARY, DYNAMIC, SITE]

    def test_where_the_package_lies_comes_last(self) -> None:
        whole = ["/target", LIBRARY, DYNAMIC, SITE, "/added"]
        assert module_path.cleaned(whole, "/target", [SITE], {"/target"}) == [
            LIBRARY,
            DYNAMIC,
            SITE,
            "/added",
            "/target",
        ]

    def test_where_it_lies_is_not_added(self) -> None:
        """Check that the package's own folder is not added, since an editable install has a finder for it."""
        assert module_path.cleaned([LIBRARY, SITE], "/tree", [SITE], set()) == [LIBRARY, SITE]


class TestUsersOwn:
    @pytest.fixture(autouse=True)
    def site(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import site

        monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
        monkeypatch.setattr(site, "USER_SITE", "/home/user")

    def test_with_what_its_files_have_added(self) -> None:
        whole = [LIBRARY, DYNAMIC, "/home/user", "/home/added", SITE, "/added"]
        assert module_path.users_own(whole, [SITE]) == {"/home/user", "/home/added"}

    def test_where_there_is_no_other(self) -> None:
        assert module_path.users_own([LIBRARY, SITE, "/home/user", "/home/added"], [SITE]) == {
            "/home/user",
            "/home/added",
        }

    def test_where_pythonpath_names_it(self) -> None:
        assert module_path.users_own(["/home/user", LIBRARY, SITE], [SITE]) == {"/home/user"}

    def test_where_it_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert module_path.users_own([LIBRARY, SITE], [SITE]) == set()
        monkeypatch.setattr("site.ENABLE_USER_SITE", False)
        assert module_path.users_own([LIBRARY, "/home/user", SITE], [SITE]) == set()
