"""Define the command `pipe-init exec` for click: its options and their help.

exec/plain_init.py carries the command out. This file is not loaded for simple command lines: exec/exec_options.py reads
them without click.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from ..exec import plain_init
from ..exec.forwarding import rewriting, signal_number
from .options.grouped import Conversion, DocumentedCommand, option
from .options.kinds import Seconds

EXAMPLES = """
pipe-init exec -- python server.py --port 80
pipe-init exec -g -- sh -c 'producer | consumer'
pipe-init exec --rewrite TERM:QUIT -- nginx -g 'daemon off;'
pipe-init exec --rewrite HUP:0 --grace 10 -- worker
pipe-init exec -s -v --pdeathsig TERM -- make test
"""

_signals = partial(option, group="Signals")
_processes = partial(option, group="Processes")


@click.command("exec", cls=DocumentedCommand, epilog=EXAMPLES, context_settings={"allow_interspersed_args": False})
@click.argument("command", metavar="CMD [ARGUMENT]...", nargs=-1, required=True, type=click.UNPROCESSED)
@_signals(
    "-g",
    "--group",
    is_flag=True,
    help="Forward signals to the program's whole process group, not to the program alone.",
)
@_signals(
    "--rewrite",
    "rewrites",
    metavar="A:B",
    type=Conversion(rewriting),
    multiple=True,
    help="Forward signal B instead of A, by number or name: 15:3, TERM:QUIT. If B is 0, nothing is sent. Repeatable.",
)
@_signals(
    "--pdeathsig",
    "parent_death",
    metavar="SIGNAL",
    type=Conversion(signal_number),
    help="The signal that pipe-init gets when its own parent dies, and forwards. Default: none.",
)
@_processes(
    "--setsid/--no-setsid",
    "session",
    default=False,
    help="Give the program a session of its own. Default: a process group of its own, in the foreground of the "
    "terminal if pipe-init is there.",
)
@_processes(
    "-s",
    "--subreaper",
    is_flag=True,
    help="At the end, also end the program's descendants that have left its process group. PID 1 always does this.",
)
@_processes(
    "--grace",
    kind=Seconds(0.0, 3600.0),
    default=plain_init.GRACE,
    help="Between TERM and KILL for the processes that the program leaves behind. Default: 2.",
)
@_processes(
    "--leave-rest",
    "leave",
    is_flag=True,
    help="Do not end the processes that the program leaves behind. When PID 1 ends, the kernel kills them.",
)
@option("-v", "--verbose", group="Output", is_flag=True, help="Write to stderr what pipe-init does.")
@click.pass_context
def execute(context: click.Context, /, **given: Any) -> int:
    """Run the program CMD under a plain init.

    Signals are forwarded to it, and orphans are collected. When it ends, the processes left in its group get TERM, and
    KILL after the grace time (not with --leave-rest). A TERM, INT, HUP or QUIT meanwhile skips the grace time. TSTP,
    TTIN and TTOU stop the program's group, then pipe-init; CONT wakes both. CMD starts with the signal mask,
    dispositions, environment and descriptors of pipe-init. Every option has an environment variable, such as
    PIPE_INIT_GRACE for --grace.

    Exit codes: the program's own; 128+n if signal n ended it; 127 it was not found; 126 it cannot be executed; 2 wrong
    usage.
    """
    return plain_init.run(options_of(given), context.obj)


def options_of(given: Mapping[str, Any]) -> plain_init.Options:
    """Convert the options that click has read to plain_init.Options.

    Raises:
        click.UsageError: The options contradict each other.
    """
    if given["subreaper"] and given["leave"]:
        raise click.UsageError("--subreaper ends what --leave-rest leaves alone: choose one.")
    changed = {"rewrites": dict(given["rewrites"]), "parent_death": given["parent_death"] or 0}
    return plain_init.Options(**{**given, **changed})
