"""Turn the options of limits into limits, and give a function what enforces them. It knows no workers."""

from __future__ import annotations

from dataclasses import replace

import click

from ...limits.confinement import Confinement
from ...limits.rlimits import CannotLimit, CannotUseCgroup, Limits
from ...log.journal import Journal
from ...model import EXEC, TEMPLATE, Function
from ..options.run_options import RunOptions

MIB = 2**20
KIB = 1024


def limits_of(options: RunOptions) -> Limits:
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
        growth=_times(options.max_growth, MIB),
    )


def _times(number: int | None, unit: int) -> int | None:
    return None if number is None else number * unit


def confined(options: RunOptions, function: Function, folders: list[str], journal: Journal) -> Function:
    """Return the function with what holds its workers to their limits. Call it while there is no worker.

    Args:
        options: The options of the run.
        function: The function.
        folders: The folders for workers' cgroups.
        journal: The log, for a note that pipe-init's own cgroup cannot be used.

    Raises:
        click.UsageError: A cgroup that the user named cannot be used, or a limit cannot be enforced on this system.
    """

    def refused(reason: str) -> None:
        if not options.quiet:
            journal.tell(f"pipe-init: its own cgroup is not used: {reason}")

    try:
        confinement = Confinement.open(function.limits, folders, None if options.cgroup else refused)
    except CannotUseCgroup as error:
        raise click.BadParameter(f"{error}.", param_hint="'--cgroup'") from None
    except CannotLimit as error:
        raise click.UsageError(f"The limits cannot be set: {error}.") from None
    method = function.start_method
    if not confinement.counts_each_worker:
        several = function.workers > 1 or function.settings.prestart
        if several or options.start_method == TEMPLATE:
            confinement.close()
            which = "several processes that serve" if several else "--start-method template"
            raise click.UsageError(
                f"--pids goes with {which} only in a cgroup with the controller pids (--cgroup): else the kernel "
                "counts all of them together."
            )
        method = EXEC
    return replace(function, confinement=confinement, start_method=method)
