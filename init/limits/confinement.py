"""Hold the processes of one function to its limits: by setrlimit(2), and by a cgroup for each where that can be had.

This is the room's door: workers and the command line come in here. It knows pids, but neither workers nor requests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from . import rlimits
from .rlimits import CPU_SECONDS, NONE, OPEN_FILES, PIDS, CannotLimit, CannotUseCgroup, Limits

if TYPE_CHECKING:
    from .cgroup import Group
    from .delegation import Delegation

PER_PROCESS = (CPU_SECONDS, OPEN_FILES)
"""Limits that each process has for itself. A template does not get them, because it would use them up by forking."""

FORKING = 9
"""Processes that a template may have besides those of the function: the runtime forks up to eight at once, through a
child."""


class Confinement:
    """The limits of one function, and the delegated folder in which each of its processes gets a cgroup.

    Args:
        limits: The limits.
        delegation: The folder; None if there is no cgroup.

    Attributes:
        limits: The limits.
    """

    def __init__(self, limits: Limits = NONE, delegation: Delegation | None = None) -> None:
        self.limits = limits
        self._delegation = delegation

    @classmethod
    def open(cls, limits: Limits, folders: Sequence[str], refused: Callable[[str], None] | None) -> Confinement:
        """Return the confinement for these limits. Call it while there is no worker.

        Args:
            limits: The limits.
            folders: Delegated cgroups; none if the function gets no cgroup.
            refused: Called with a reason if the folders cannot be used and the limits hold without them. None if that
                is an error.

        Raises:
            CannotUseCgroup: The folders cannot be used.
            CannotLimit: A limit cannot be enforced on this system.
        """
        delegation = None
        if folders:
            from .delegation import Delegation  # most runs have no cgroup

            try:
                delegation = Delegation(folders, limits.for_cgroup())
            except CannotUseCgroup as error:
                if refused is None:
                    raise
                refused(str(error))
        try:
            rlimits.check(limits, delegation.holds if delegation is not None else ())
        except CannotLimit:
            if delegation is not None:
                delegation.close()
            raise
        return cls(limits, delegation)

    @property
    def counts_each_worker(self) -> bool:
        """Return whether the limit of processes, if there is one, holds for each worker and not for all together."""
        return self.limits.pids is None or (self._delegation is not None and PIDS in self._delegation.holds)

    def per_process(self) -> dict[str, int]:
        """Return HELLO's fields for the limits that a worker cannot inherit from a template."""
        fields = {name: getattr(self.limits, name) for name in PER_PROCESS}
        return {name: value for name, value in fields.items() if value is not None}

    def group(self, for_template: bool = False) -> Group | None:
        """Make a cgroup for one more process; return None if the function has none.

        Args:
            for_template: Whether it is for a template. Workers are in its group for a moment, before they join their
                own.

        Raises:
            OSError: The cgroup cannot be made.
        """
        limits = self.limits
        if self._delegation is None:
            return None
        if for_template and limits.pids is not None:
            limits = replace(limits, pids=limits.pids + FORKING)
        return self._delegation.group(limits)

    def apply(self, pid: int, but: Collection[str] = ()) -> None:
        """Hold a child of this process to the limits, except to those that its cgroup enforces if there are cgroups.

        Args:
            pid: The child. Its own children inherit the limits.
            but: Names of limits that are left out.

        Raises:
            OSError: The child is gone, or its limits may not be set.
        """
        held = () if self._delegation is None else self._delegation.holds
        rlimits.apply(pid, self.limits.without(*but), held)

    def apply_per_process(self, pid: int) -> None:
        """Hold a forked worker again to the limits that it has set itself, whatever the function has made of them.

        Raises:
            OSError: As for `apply`.
        """
        rlimits.apply(pid, Limits(**self.per_process()))

    def release(self, group: Group | None) -> None:
        """Remove a cgroup whose process is gone, now or when everything in it has ended."""
        if group is not None and self._delegation is not None:
            self._delegation.release(group)

    def close(self) -> bool:
        """Remove all cgroups. Return False if processes that do not end keep one of them."""
        return self._delegation is None or self._delegation.close()


def cgroup_folders(limits: Limits, given: Sequence[str]) -> list[str]:
    """Return the folders in which each process gets a cgroup.

    Args:
        limits: The limits.
        given: The folders that the user names. Without any, it is this process's own cgroup, if systemd has delegated
            that and a limit needs one.
    """
    if given or not limits.for_cgroup():
        return list(given)
    from .delegation import own_delegated  # most runs have no cgroup

    own = own_delegated(limits.for_cgroup())
    return [] if own is None else [own]
