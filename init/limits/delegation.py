"""Where workers' cgroups may be made: folders that were delegated to us, by a user or by systemd.

It knows files and processes, not workers or requests. It is imported only where a cgroup was asked for, or where a
limit was that a cgroup of our own could hold.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Sequence

from .cgroup import FILES, PROCS, Group, put, removed, words
from .rlimits import CPUS, MEMORY, PIDS, CannotLimit, Limits

SUBTREE = "cgroup.subtree_control"

CONTROLLERS = {MEMORY: "memory", PIDS: "pids", CPUS: "cpu"}
"""The controller that holds each limit."""

LEAF = "pipe-init-{}"
"""Of the init itself, where it sits in a folder of version 2 that hands on controllers."""

NAME = "pipe-init-{}-{}"
"""Of a worker's group: the init's pid, and a number."""

DELEGATED = "user.delegate"
"""systemd's mark on a group that it has handed over (systemd.resource-control(5), Delegate=)."""


class Parent:
    """Delegated folders, in which each worker gets a group of its own.

    folders: one of version 2, or of version 1 one in each hierarchy that is to be used. CannotLimit: no group can be
    made there, or the controllers that `wanted` limits need cannot be switched on.
    """

    def __init__(self, folders: Sequence[str], wanted: Collection[str] = ()) -> None:
        self.folders = list(dict.fromkeys(os.path.realpath(folder) for folder in folders))
        self._number = 0
        self._left: list[Group] = []
        self._undo: list[Callable[[], None]] = []
        for folder in self.folders:
            if not os.path.exists(os.path.join(folder, PROCS)):
                raise CannotLimit(f"{folder} is no cgroup: it has no {PROCS}")
        hierarchies: dict[int, str] = {}
        for folder in self.folders:
            other = hierarchies.setdefault(os.stat(folder).st_dev, folder)
            if other != folder:
                raise CannotLimit(f"{other} and {folder} are of one hierarchy: a process can only be in one of them")
        try:
            for folder in self.folders:
                self._hand_on(folder, [CONTROLLERS[name] for name in wanted])
            trial = self.group(Limits())
        except OSError as error:
            self.close()
            where = error.filename or folder
            raise CannotLimit(f"no cgroup can be used in {folder}: {where}: {error.strerror}") from None
        except CannotLimit:
            self.close()
            raise
        self.holds = frozenset(name for name in FILES if trial.has(name))
        useless = [folder for folder in trial.folders if not _limits_something(folder)]
        self.release(trial)
        if useless:
            self.close()
            raise CannotLimit(f"{os.path.dirname(useless[0])} has none of the controllers memory, pids and cpu")

    def group(self, limits: Limits) -> Group:
        """A new group. OSError: it cannot be made, or does not take its limits."""
        self.tidy()
        made: list[str] = []
        try:
            while not made:
                self._number += 1
                made = self._made(NAME.format(os.getpid(), self._number))
            return Group(made, limits)
        except OSError:
            for folder in made:
                removed(folder)
            raise

    def _made(self, name: str) -> list[str]:
        """The folders of that name, made; [] if there was one: an init of another PID namespace has our pid too."""
        made: list[str] = []
        try:
            for folder in self.folders:
                os.mkdir(os.path.join(folder, name))
                made.append(os.path.join(folder, name))
        except OSError as error:
            for folder in made:
                removed(folder)
            if error.errno == errno.EEXIST:
                return []
            raise
        return made

    def release(self, group: Group) -> None:
        """The worker is gone: its group is to go, now or when all in it has ended."""
        if not group.close():
            self._left.append(group)

    def tidy(self) -> bool:
        """Remove the groups whose last processes have ended. False: some are left."""
        self._left = [group for group in self._left if not group.close()]
        return not self._left

    def close(self) -> bool:
        """Leave the folders as they were found. False: processes that do not end are left in a group."""
        tidy = self.tidy()
        while self._undo:
            try:
                self._undo.pop()()
            except OSError:
                tidy = False
        return tidy

    def _hand_on(self, folder: str, controllers: Iterable[str]) -> None:
        """Have subgroups in a folder of version 2 use these controllers, as far as it has them itself."""
        control = os.path.join(folder, SUBTREE)
        if not os.path.exists(control):
            return  # version 1: each hierarchy has its controllers
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
        """Leave a folder of version 2 for a leaf in it: one that hands on controllers may have no processes itself."""
        members = _pids(folder)
        if members != {os.getpid()}:
            others = ", ".join(map(str, sorted(members - {os.getpid()})))
            raise CannotLimit(
                f"{folder} has processes in it (pid {others}), so it cannot hand on its controllers "
                "(cgroups(7), no internal processes): move them into a group below, or give an empty one"
            )
        leaf = os.path.join(folder, LEAF.format(os.getpid()))
        os.mkdir(leaf)
        self._undo.append(lambda: os.rmdir(leaf))
        put(os.path.join(leaf, PROCS), b"0")
        self._undo.append(lambda: put(os.path.join(folder, PROCS), b"0"))


def _limits_something(folder: str) -> bool:
    """Whether a group has any use: one of version 2 always, since all that is in it can be killed."""
    version_2 = os.path.exists(os.path.join(folder, "cgroup.controllers"))
    return version_2 or any(os.path.exists(os.path.join(folder, name)) for names in FILES.values() for name in names)


def own_delegated(wanted: Collection[str]) -> str | None:
    """The folder of this process's own group of version 2, if systemd has marked it as delegated and it has controllers
    for any of the `wanted` limits; else None.
    """
    try:
        with open("/proc/self/cgroup") as group, open("/proc/self/mountinfo") as mounts:
            folder = own_folder(group.read(), mounts.read())
        if folder is None or os.getxattr(folder, DELEGATED) != b"1":
            return None
        available = words(os.path.join(folder, "cgroup.controllers"))
    except OSError:
        return None  # no cgroups here, no /proc, or nobody has marked it
    return folder if any(CONTROLLERS[name] in available for name in wanted) else None


def own_folder(group: str, mounts: str) -> str | None:
    """Where one's own group of version 2 is. group, mounts: the text of proc(5)'s cgroup and mountinfo."""
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
    """A path of mountinfo, where blanks are octal numbers."""
    return path.encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")


def _pids(folder: str) -> set[int]:
    return {int(pid) for pid in words(os.path.join(folder, PROCS))}
