"""Make cgroups for workers in folders that the user or systemd has delegated to pipe-init.

pipe-init does not use every cgroup that it can write to, because root can write to every cgroup of the machine. The
program that manages such a cgroup would find processes moved and settings changed. So pipe-init uses a folder only if
the user names it, or if systemd has marked it as delegated.

This file knows files and processes, not workers or requests. It is imported only if the user names a cgroup, or sets a
limit that the cgroup of pipe-init itself could enforce.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Sequence

from .cgroup import FILES, PROCS, Group, put, removed, words
from .rlimits import CPUS, MEMORY, PIDS, CannotUseCgroup, Limits

SUBTREE = "cgroup.subtree_control"

CONTROLLERS = {MEMORY: "memory", PIDS: "pids", CPUS: "cpu"}
"""The controller that enforces each limit."""

LEAF = "pipe-init-{}"
"""The name of the cgroup that the init moves to if it is itself in a delegated folder of version 2. Such a folder must
have no processes."""

NAME = "pipe-init-{}-{}"
"""The name of a worker's cgroup, with the init's pid and a random number. An init in another PID namespace may have the
same pid."""

DELEGATED = "user.delegate"
"""systemd's mark on a cgroup that it has delegated (systemd.resource-control(5), Delegate=)."""


class Delegation:
    """Delegated folders, in which each worker gets a cgroup of its own.

    Args:
        folders: One folder of version 2, or one folder in each hierarchy of version 1 to use.
        wanted: The names of the limits that cgroups should enforce.

    Attributes:
        folders: The real paths of the folders.
        holds: The names of the limits that cgroups in these folders can enforce.

    Raises:
        CannotUseCgroup: No cgroup can be made there, or a controller that is needed cannot be switched on.
    """

    def __init__(self, folders: Sequence[str], wanted: Collection[str] = ()) -> None:
        self.folders = list(dict.fromkeys(os.path.realpath(folder) for folder in folders))
        self._left: list[Group] = []
        self._undo: list[Callable[[], None]] = []
        hierarchies: dict[int, str] = {}
        for folder in self.folders:
            if not os.path.exists(os.path.join(folder, PROCS)):
                raise CannotUseCgroup(f"{folder} is no cgroup: it has no {PROCS}")
            other = hierarchies.setdefault(os.stat(folder).st_dev, folder)
            if other != folder:
                raise CannotUseCgroup(
                    f"{other} and {folder} are of one hierarchy: a process can only be in one of them"
                )
        try:
            for folder in self.folders:
                self._hand_on(folder, [CONTROLLERS[name] for name in wanted])
            trial = self.group(Limits())
        except OSError as error:
            self.close()
            why = f"{error.filename or folder}: {error.strerror}"
            raise CannotUseCgroup(f"no cgroup can be used in {folder}: {why}") from None
        except CannotUseCgroup:
            self.close()
            raise
        self.holds = frozenset(name for name in FILES if trial.has(name))
        useless = [folder for folder in trial.folders if not _limits_something(folder)]
        self.release(trial)
        if useless:
            self.close()
            raise CannotUseCgroup(f"{os.path.dirname(useless[0])} has none of the controllers memory, pids and cpu")

    def group(self, limits: Limits) -> Group:
        """Make a cgroup with these limits.

        Raises:
            OSError: The cgroup cannot be made, or the kernel does not accept its limits.
        """
        self.tidy()
        name = NAME.format(os.getpid(), int.from_bytes(os.urandom(6), "big"))
        made: list[str] = []
        try:
            for folder in self.folders:
                made.append(os.path.join(folder, name))
                os.mkdir(made[-1])
            return Group(made, limits)
        except OSError:
            for folder in made:
                removed(folder)
            raise

    def release(self, group: Group) -> None:
        """Remove a cgroup after its worker's end, now or as soon as all other processes in it have ended."""
        if not group.close():
            self._left.append(group)

    def tidy(self) -> bool:
        """Remove released cgroups whose last processes have ended. Return False if some cgroups are left."""
        self._left = [group for group in self._left if not group.close()]
        return not self._left

    def close(self) -> bool:
        """Restore the folders as they were at first. Return False if processes that do not end prevent it."""
        tidy = self.tidy()
        while self._undo:
            try:
                self._undo.pop()()
            except OSError:
                tidy = False
        return tidy

    def _hand_on(self, folder: str, controllers: Iterable[str]) -> None:
        """Switch on controllers for the cgroups in a folder of version 2. Skip those that the folder itself lacks."""
        control = os.path.join(folder, SUBTREE)
        if not os.path.exists(control):
            return  # in version 1, the controllers of a hierarchy are always on
        available, handed_on = words(os.path.join(folder, "cgroup.controllers")), words(control)
        missing = sorted(set(controllers) & available - handed_on)
        if not missing:
            return
        switch_on = " ".join("+" + name for name in missing).encode()
        try:
            put(control, switch_on)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            self._step_aside(folder)
            put(control, switch_on)
        self._undo.append(lambda: put(control, switch_on.replace(b"+", b"-")))

    def _step_aside(self, folder: str) -> None:
        """Move the init out of a folder of version 2, into a cgroup in that folder.

        The kernel lets a cgroup hand on its controllers only while the cgroup has no processes itself.

        Raises:
            CannotUseCgroup: The folder has other processes than the init.
            OSError: The kernel refuses.
        """
        members = {int(pid) for pid in words(os.path.join(folder, PROCS))}
        if members != {os.getpid()}:
            others = ", ".join(map(str, sorted(members - {os.getpid()})))
            raise CannotUseCgroup(
                f"{folder} has processes in it (pid {others}), so it cannot hand on its controllers "
                "(cgroups(7), no internal processes): move them into a group below, or give an empty one"
            )
        leaf = os.path.join(folder, LEAF.format(os.getpid()))
        os.mkdir(leaf)
        self._undo.append(lambda: os.rmdir(leaf))
        put(os.path.join(leaf, PROCS), b"0")
        self._undo.append(lambda: put(os.path.join(folder, PROCS), b"0"))


def _limits_something(folder: str) -> bool:
    """Return whether a cgroup is of use. In version 2 it always is, because pipe-init can kill all processes in it."""
    version_2 = os.path.exists(os.path.join(folder, "cgroup.controllers"))
    return version_2 or any(os.path.exists(os.path.join(folder, name)) for names in FILES.values() for name in names)


def own_delegated(wanted: Collection[str]) -> list[str]:
    """Return the folder of the cgroup of version 2 that this process is in; nothing if pipe-init must not use it.

    pipe-init may use the cgroup if systemd has marked it as delegated, and if it has a controller for at least one of
    the limits in `wanted`.
    """
    try:
        with open("/proc/self/cgroup") as group, open("/proc/self/mountinfo") as mounts:
            folder = own_folder(group.read(), mounts.read())
        if folder is None or os.getxattr(folder, DELEGATED) != b"1":
            return []
        available = words(os.path.join(folder, "cgroup.controllers"))
    except OSError:
        return []  # the system has no cgroups or no /proc, or the cgroup is not marked
    return [folder] if any(CONTROLLERS[name] in available for name in wanted) else []


def own_folder(group: str, mounts: str) -> str | None:
    """Return the folder of the cgroup of version 2 that a process is in; None if no mount shows the cgroup.

    Args:
        group: The text of /proc/PID/cgroup (proc(5)).
        mounts: The text of /proc/PID/mountinfo.
    """
    own = next((line[3:] for line in group.splitlines() if line.startswith("0::")), None)
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if own is None or not after.startswith("cgroup2 "):
            continue
        root, point = (_unescaped(part) for part in before.split()[3:5])
        path = os.path.relpath(own, root)
        if not path.startswith(".."):
            return os.path.normpath(os.path.join(point, path))
    return None


def _unescaped(path: str) -> str:
    """Return a path from mountinfo with its escapes decoded. mountinfo writes a blank as an octal number."""
    return path.encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")
