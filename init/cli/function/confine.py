"""From the options of limits to Limits, and to the cgroup that holds some of them.

click.UsageError: what cannot be had. It knows options and folders, not workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ...limits import rlimits
from ...limits.rlimits import CannotLimit, Limits

if TYPE_CHECKING:
    from ...limits.delegation import Parent
    from ...log.journal import Journal
    from .inputs import Given

MIB = 2**20
KIB = 1024


def limits_of(options: Given) -> Limits:
    """The limits that the options ask for."""
    return Limits(
        memory=_times(options.memory, MIB),
        pids=options.pids,
        cpu_seconds=options.cpu_time,
        cpus=options.cpus,
        open_files=options.open_files,
        file_bytes=_times(options.file_size, MIB),
        output_bytes=_times(options.output_limit, MIB),
        log_bytes=_times(options.log_limit, KIB),
    )


def _times(number: int | None, unit: int) -> int | None:
    return None if number is None else number * unit


def cgroup_folders(options: Given, wanted: Limits) -> list[str]:
    """The folders below which each worker is to have a group: those given, else our own if it was delegated to us."""
    if options.cgroup:
        return [str(folder) for folder in options.cgroup]
    if not wanted.for_cgroup():
        return []
    from ...limits.delegation import own_delegated

    own = own_delegated(wanted.for_cgroup())
    return [] if own is None else [own]


def open_cgroup(options: Given, folders: list[str], wanted: Limits, journal: Journal) -> Parent | None:
    """The place for workers' groups, if there is one. Call it while there is no worker.

    click.UsageError: what was given cannot be used, or a limit cannot be had here.
    """
    parent = None
    try:
        if folders:
            parent = _parent(options, folders, wanted, journal)
        rlimits.check(wanted, parent.holds if parent is not None else ())
    except CannotLimit as error:
        if parent is not None:
            parent.close()
        raise click.UsageError(f"The limits cannot be set: {error}.") from None
    return parent


def _parent(options: Given, folders: list[str], wanted: Limits, journal: Journal) -> Parent | None:
    from ...limits.delegation import Parent

    try:
        return Parent(folders, wanted.for_cgroup())
    except CannotLimit as error:
        if options.cgroup:
            raise click.BadParameter(f"{error}.", param_hint="'--cgroup'") from None
        if not options.quiet:
            journal.tell(f"pipe-init: its own cgroup is not used: {error}")
        return None
