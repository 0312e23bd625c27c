"""`pipe-init exec`: the command's options and their help.

What they do is in exec/plain_init.py. Simple command lines do not come here: exec/command_line.py reads them without
click.
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
    help="Send signal B where A comes, by number or name: 15:3, TERM:QUIT. With 0 for B nothing is sent. Repeatable.",
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
    help="At the end, end all that descends from the program, also what has left its process group. PID 1 always does.",
)
@_processes(
    "--grace",
    kind=Seconds(0.0, 3600.0),
    default=plain_init.GRACE,
    help="Between TERM and KILL for what the program leaves behind. Default: 2.",
)
@_processes(
    "--leave-rest",
    "leave",
    is_flag=True,
    help="At the end, leave alone what the program leaves behind. As PID 1 the kernel kills it.",
)
@option("-v", "--verbose", group="Output", is_flag=True, help="Say on stderr what is done.")
@click.pass_context
def execute(context: click.Context, /, **given: Any) -> int:
    """Run the program CMD under a plain init.

    Signals are forwarded to it, orphans are collected, and when it ends what is left of its process group gets TERM,
    and KILL after the grace time (not with --leave-rest); a TERM, INT, HUP or QUIT meanwhile skips that. TSTP, TTIN and
    TTOU stop the program's group, then pipe-init; CONT wakes both. It has the signal mask, dispositions, environment
    and descriptors that pipe-init was started with. Every option has a variable too: --grace is PIPE_INIT_GRACE.

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
