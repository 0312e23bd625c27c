"""Clean sys.path, so that the init imports nothing from folders that are meant for the program or the function.

Those folders are PYTHONPATH, the folder of the script, the working directory and the user's site-packages. The
environment is not changed. While this file runs they are still on sys.path, so it imports only modules that are loaded
already, and not even `__future__`. It knows no commands.
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
    """A finder of last resort for modules that the init needs and that lie only in a folder that it avoids."""

    def __init__(self, path: list[str]) -> None:
        self._path = path

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """Return the module's spec; None if it is not one of NEEDED, or is not found."""
        return PathFinder.find_spec(name, self._path) if name in NEEDED else None


def clean() -> None:
    """Remove from sys.path the folders that the init must not import from. Call it once, before any other import.

    Afterwards the standard library comes first. If this package itself lies in a folder that is removed (after an
    installation with --target or --user, or in a zip file), that folder is kept in the last place.
    """
    whole = [os.path.abspath(entry) for entry in sys.path]
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = cleaned(whole, own, site_folders(), avoided(whole))
    sys.meta_path.append(Elsewhere(whole))


def cleaned(whole: list[str], own: str, site: list[str], avoided: set[str]) -> list[str]:
    """Return the path of modules that the init uses.

    Args:
        whole: The interpreter's sys.path, as absolute folders.
        own: The folder in which this package lies.
        site: The folders of installed packages of the system or the virtual environment.
        avoided: The folders to remove, except those of `site` and of the standard library.
    """
    standard = [entry for entry in whole if is_standard(entry)]
    kept = [entry for entry in whole if entry not in standard and (entry in site or entry not in avoided)]
    if own in whole and own not in standard + kept:
        kept.append(own)
    return standard + kept


def is_standard(entry: str) -> bool:
    """Return whether a folder or a zip file belongs to the standard library."""
    if entry == os.path.dirname(os.__file__):
        return True
    archive = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
    named = os.path.basename(entry) in ("lib-dynload", archive)
    return named and entry.startswith((sys.base_prefix + os.sep, sys.base_exec_prefix + os.sep))


def site_folders() -> list[str]:
    """Return the folders of installed packages, without the user's own; none with -S."""
    site = sys.modules.get("site")
    return [os.path.abspath(folder) for folder in site.getsitepackages()] if site is not None else []


def avoided(whole: list[str]) -> set[str]:
    """Return what PYTHONPATH, the script or working directory, and the user's site-packages have put on the path."""
    found = set()
    if not sys.flags.isolated and not getattr(sys.flags, "safe_path", False):
        found.update(whole[:1])  # the script's folder, or the working directory
    if not sys.flags.ignore_environment and os.environ.get("PYTHONPATH"):
        found.update(map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))
    return found | users_own(whole, site_folders())


def users_own(whole: list[str], site: list[str]) -> set[str]:
    """Return the user's site-packages and the folders that its .pth files have added after it."""
    module = sys.modules.get("site")
    if module is None or not module.ENABLE_USER_SITE or module.USER_SITE not in whole:
        return set()
    found = set()
    for entry in whole[whole.index(module.USER_SITE) :]:
        if entry in site or is_standard(entry):
            break
        found.add(entry)
    return found
