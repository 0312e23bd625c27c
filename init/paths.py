"""Cleans sys.path: the init imports nothing from the places that are meant for the program or the function.

These are PYTHONPATH, the folder of the script, the working directory and the user's site-packages. The environment
stays as it is. This file runs while they are still on sys.path, so it imports only what is in sys.modules by then: not
even `__future__`. It knows no commands.
"""

import os
import sys
from _frozen_importlib_external import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

NEEDED = ("click", "msgpack", "pipe_runtime")
"""What the init imports besides the standard library and its own package."""


class Elsewhere:
    """A finder, asked last, for what the init needs and finds in no other place than those that it avoids."""

    def __init__(self, path: list[str]) -> None:
        self._path = path

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """Return the module's spec; None if it is none of NEEDED, or is not there either."""
        return PathFinder.find_spec(name, self._path) if name in NEEDED else None


def clean() -> None:
    """Take out of sys.path what the init must not import from. Call it once, before any other import.

    The standard library comes first then. Where this very package lies only in a folder that is taken out (installed
    with --target or --user, a zip file), that folder comes last. The finder of NEEDED is the last one of all.
    """
    whole = [os.path.abspath(entry) for entry in sys.path]
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = cleaned(whole, own, site_folders(), avoided(whole))
    sys.meta_path.append(Elsewhere(whole))


def cleaned(whole: list[str], own: str, site: list[str], avoided: set[str]) -> list[str]:
    """Return the path of modules that the init uses.

    Args:
        whole: the interpreter's, of absolute folders.
        own: the folder in which this package lies.
        site: the system's, or the virtual environment's, folders of installed packages.
        avoided: the folders to take out, if they are not among `site` or the standard library's.
    """
    standard = [entry for entry in whole if is_standard(entry)]
    kept = [entry for entry in whole if entry not in standard and (entry in site or entry not in avoided)]
    if own in whole and own not in standard + kept:
        kept.append(own)
    return standard + kept


def is_standard(entry: str) -> bool:
    """Whether a folder or a zip file is the standard library's."""
    if entry == os.path.dirname(os.__file__):
        return True
    archive = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
    named = os.path.basename(entry) in ("lib-dynload", archive)
    return named and entry.startswith((sys.base_prefix + os.sep, sys.base_exec_prefix + os.sep))


def site_folders() -> list[str]:
    """Return the folders of installed packages, the user's own not among them; none with -S."""
    site = sys.modules.get("site")
    return [os.path.abspath(folder) for folder in site.getsitepackages()] if site is not None else []


def avoided(whole: list[str]) -> set[str]:
    """Return what PYTHONPATH, the way in which Python was started, and the user's site-packages put on the path."""
    found = set()
    if not sys.flags.isolated and not getattr(sys.flags, "safe_path", False):
        found.update(whole[:1])  # the script's folder, or the working directory
    if not sys.flags.ignore_environment and os.environ.get("PYTHONPATH"):
        found.update(map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))
    return found | users_own(whole, site_folders())


def users_own(whole: list[str], site: list[str]) -> set[str]:
    """Return the user's site-packages and what its .pth files have added after it."""
    module = sys.modules.get("site")
    if module is None or not module.ENABLE_USER_SITE or module.USER_SITE not in whole:
        return set()
    found = set()
    for entry in whole[whole.index(module.USER_SITE) :]:
        if entry in site or is_standard(entry):
            break
        found.add(entry)
    return found
