"""Enforce one function's limits on its processes: with setrlimit(2), and with a cgroup for each process if possible.

This file is the folder's main interface, for workers and the command line. It knows pids, but neither workers nor
requests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ..kernel.plain_classes import replace
from . import rlimits
from .rlimits import CPU_SECONDS, NONE, OPEN_FILES, PIDS, CannotLimit, CannotUseCgroup, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cgroup import Group
    from .delegation import Delegation

PER_PROCESS = (CPU_SECONDS, OPEN_FILES)
"""Limits that the kernel counts for each process separately. A template does not get them. It would need more CPU time
and descriptors than one worker, because it forks all workers."""

FORKING = 9
"""Processes that a template may have in addition to those of the function: up to eight workers that it forks at once,
and the child that forks them."""


class Confinement:
    """The limits of one function, and the delegated folders in which each of its processes gets a cgroup.

    Args:
        limits: The function's limits.
        delegation: The delegated folders; None if the function's processes get no cgroups.

    Attributes:
        limits: The function's limits.
    """

    def __init__(self, limits: Limits = NONE, delegation: Delegation | None = None) -> None:
        self.limits = limits
        self._delegation = delegation
        self._held = frozenset[str]() if delegation is None else delegation.holds

    @classmethod
    def open(cls, limits: Limits, folders: Sequence[str], refused: Callable[[str], None] | None) -> Confinement:
        """Check that the limits can be enforced, and return the confinement.

        If there are folders, call this while there is no worker.

        Args:
            limits: The function's limits.
            folders: Delegated cgroups; empty if the function's processes get no cgroups.
            refused: Called with the reason if the folders cannot be used. The limits are then enforced without
                cgroups. None if such folders are an error.

        Raises:
            CannotUseCgroup: The folders cannot be used.
            CannotLimit: A limit cannot be enforced on this system.
        """
        delegation = None
        if folders:
            from .delegation import Delegation  # imported late, because most runs use no cgroup

            try:
                delegation = Delegation(folders, limits.for_cgroup())
            except CannotUseCgroup as error:
                if refused is None:
                    raise
                refused(str(error))
        confinement = cls(limits, delegation)
        try:
            rlimits.check(limits, confinement._held)
        except CannotLimit:
            confinement.close()
            raise
        return confinement

    @property
    def counts_each_worker(self) -> bool:
        """Return whether the limit on processes, if there is one, applies to each worker separately.

        Without a cgroup, the kernel counts the processes of all workers together.
        """
        return self.limits.pids is None or PIDS in self._held

    def per_process(self) -> dict[str, int]:
        """Return the fields of HELLO with the limits that a worker must set itself if a template has forked it."""
        fields = {name: getattr(self.limits, name) for name in PER_PROCESS}
        return {name: value for name, value in fields.items() if value is not None}

    def group(self, for_template: bool = False) -> Group | None:
        """Make a cgroup for one more process. Return None if the function's processes get no cgroups.

        Args:
            for_template: Whether the cgroup is for a template. New workers are also in the template's cgroup for a
                moment, before they join their own.

        Raises:
            OSError: The cgroup cannot be made.
        """
        limits = self.limits
        if self._delegation is None:
            return None
        if for_template and limits.pids is not None:
            limits = replace(limits, pids=limits.pids + FORKING)
        return self._delegation.group(limits)

    def apply(self, pid: int, without: Collection[str] = ()) -> None:
        """Set a child's rlimits for all limits that no cgroup enforces.

        Args:
            pid: A child of this process. Its own children inherit the limits.
            without: The names of limits to leave out.

        Raises:
            OSError: The child has ended, or this process may not set its limits.
        """
        rlimits.apply(pid, self.limits.without(*without), self._held)

    def apply_per_process(self, pid: int) -> None:
        """Set the limits of `per_process` for a worker that a template has forked.

        The worker has set them itself already, but the function's code may have changed them.

        Raises:
            OSError: See `apply`.
        """
        rlimits.apply(pid, Limits(**self.per_process()))

    def release(self, group: Group | None) -> None:
        """Remove the cgroup of a process that has ended, now or as soon as all other processes in it have ended."""
        if group is not None and self._delegation is not None:
            self._delegation.release(group)

    def close(self) -> bool:
        """Remove all cgroups. Return False if one remains, because processes in it do not end."""
        return self._delegation is None or self._delegation.close()


def cgroup_folders(limits: Limits, given: Sequence[str]) -> list[str]:
    """Return the folders in which each process gets a cgroup; an empty list if processes get no cgroups.

    If the user names no folder, use the cgroup of pipe-init itself, provided that systemd has delegated it and that it
    can enforce one of the limits.

    Args:
        limits: The function's limits.
        given: The folders that the user names.
    """
    if given or not limits.for_cgroup():
        return list(given)
    from .delegation import own_delegated  # imported late, because most runs use no cgroup

    return own_delegated(limits.for_cgroup())
