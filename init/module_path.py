"""Clean sys.path, so that the init imports nothing from folders that are meant for the program or the function.

Those folders are the ones in PYTHONPATH, the script's folder, the working directory and the user's site-packages. They
are still on sys.path when this file is loaded. So this file imports only modules that are loaded already, and not even
`__future__`. It does not change the environment, and knows no commands.
"""

import os
import sys
from _frozen_importlib_external import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

NEEDED = ("click", "msgpack", "pipe_runtime")
"""The packages that the init imports besides the standard library and its own package."""


class Elsewhere:
    """A finder of last resort. It finds the packages of NEEDED if they are only in folders that the init avoids."""

    def __init__(self, path: list[str]) -> None:
        self._path = path

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """Return the module's spec; None if the module is not one of NEEDED, or is not found."""
        return PathFinder.find_spec(name, self._path) if name in NEEDED else None


def clean() -> None:
    """Remove from sys.path the folders that the init must not import from. Call it once, before any other import.

    Afterwards the standard library comes first. The folder that contains this package always stays, because the init
    needs it. If that is a folder to avoid (after `pip install --target` or `--user`, or in a zip file), it comes last.
    """
    whole = [os.path.abspath(entry) for entry in sys.path]
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = cleaned(whole, own, site_folders(), avoided(whole))
    sys.meta_path.append(Elsewhere(whole))


def cleaned(whole: list[str], own: str, site: list[str], avoided: set[str]) -> list[str]:
    """Return the folders that stay on sys.path, in their new order.

    Args:
        whole: The interpreter's sys.path, as absolute paths.
        own: The folder that contains this package.
        site: The site-packages folders of the system or of the virtual environment.
        avoided: The folders to remove, unless they are in `site` or belong to the standard library.
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
    """Return the site-packages folders without the user's own; an empty list if Python runs with -S."""
    site = sys.modules.get("site")
    return [os.path.abspath(folder) for folder in site.getsitepackages()] if site is not None else []


def avoided(whole: list[str]) -> set[str]:
    """Return the folders that PYTHONPATH, the start of Python and the user's site-packages have put on the path.

    The start of Python puts the script's folder or the working directory there.

    Args:
        whole: See cleaned.
    """
    found = set()
    if not sys.flags.isolated and not getattr(sys.flags, "safe_path", False):
        found.update(whole[:1])  # the script's folder, or the working directory
    if not sys.flags.ignore_environment and os.environ.get("PYTHONPATH"):
        found.update(map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))
    return found | users_own(whole, site_folders())


def users_own(whole: list[str], site: list[str]) -> set[str]:
    """Return the user's site-packages folder, and the folders that its .pth files have added to the path after it.

    Args:
        whole: See cleaned.
        site: See cleaned.
    """
    module = sys.modules.get("site")
    if module is None or not module.ENABLE_USER_SITE or module.USER_SITE not in whole:
        return set()
    found = set()
    for entry in whole[whole.index(module.USER_SITE) :]:
        if entry in site or is_standard(entry):
            break
        found.add(entry)
    return found
