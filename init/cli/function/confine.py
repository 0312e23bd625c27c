"""Turn the options of limits into limits, and into the confinement that enforces them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ...limits.confinement import Confinement
from ...limits.rlimits import CannotLimit, CannotUseCgroup, Limits

if TYPE_CHECKING:
    from ...log.journal import Journal
    from .inputs import Given

MIB = 2**20
KIB = 1024


def limits_of(options: Given) -> Limits:
    """Return the limits that the options ask for."""
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


def open_confinement(options: Given, limits: Limits, folders: list[str], journal: Journal) -> Confinement:
    """Return what holds workers to their limits. Call it while there is no worker.

    Args:
        options: The options of the run.
        limits: The limits that they ask for.
        folders: The folders for workers' cgroups.
        journal: The log, for a note that pipe-init's own cgroup cannot be used.

    Raises:
        click.UsageError: A cgroup that the user named cannot be used, or a limit cannot be enforced on this system.
    """

    def refused(reason: str) -> None:
        if not options.quiet:
            journal.tell(f"pipe-init: its own cgroup is not used: {reason}")

    try:
        return Confinement.open(limits, folders, None if options.cgroup else refused)
    except CannotUseCgroup as error:
        raise click.BadParameter(f"{error}.", param_hint="'--cgroup'") from None
    except CannotLimit as error:
        raise click.UsageError(f"The limits cannot be set: {error}.") from None
