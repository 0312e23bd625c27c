"""`pipe-init run`: the command's options and their help.

What the options mean for a function stands in inputs.py, what a run does in session.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import report
from .inputs import Given
from .options import DocumentedCommand, Seconds, option, prefer_command_line
from .session import Session

if TYPE_CHECKING:
    from ..__main__ import Early

MIN_MEMORY_MB = 16
"""With less not even the interpreter starts."""

MAX_MEMORY_MB = 10**9
"""More than any machine has, and little enough for setrlimit(2)."""

EXAMPLES = """
pipe-init run index.handler
pipe-init run index.handler -C examples/hello -e '{"name": "world"}'
pipe-init run app.main.handler -f event.json -t 3 -m 256
pipe-init run index.handler --raw -e 'plain text'
cat events.jsonl | pipe-init run index.handler --events - -q > results.jsonl
"""


@click.command(cls=DocumentedCommand, examples=EXAMPLES)
@click.argument("handler")
@option(
    "-C",
    "--code-dir",
    group="Function",
    type=click.Path(path_type=Path),
    default=".",
    help="Where the handler lives. Default: here.",
)
@option(
    "--python",
    group="Function",
    metavar="PATH",
    help="Another interpreter, or a virtual environment; pipe-init need not be installed in it.",
)
@option(
    "-E",
    "--env",
    group="Function",
    metavar="K=V",
    multiple=True,
    help="A variable for the function; K alone passes on ours. Repeatable.",
)
@option(
    "--env-file",
    group="Function",
    metavar="FILE",
    multiple=True,
    help="Variables from a file, a K=V or K per line, # for comments. Repeatable.",
)
@option(
    "-e",
    "--event",
    group="Event",
    metavar="JSON",
    help="The event, inline; with --raw the text itself. Default: {}.",
)
@option("-f", "--event-file", group="Event", metavar="FILE", help="The event from a file; - is stdin.")
@option(
    "--events",
    group="Event",
    metavar="FILE",
    help="One event per line (JSON Lines), one result line for each, in order; - is stdin.",
)
@option(
    "--raw",
    group="Event",
    is_flag=True,
    help="The handler gets bytes, and the bytes it returns go out as they are.",
)
@option(
    "-t",
    "--timeout",
    group="Limits",
    metavar="SECONDS",
    type=Seconds(0.001, 86400.0),
    default=60.0,
    help="For each event. Default: 60.",
)
@option(
    "-m",
    "--memory",
    group="Limits",
    metavar="MB",
    type=click.IntRange(MIN_MEMORY_MB, MAX_MEMORY_MB),
    help="The function's memory, at least 16. Default: no limit.",
)
@option(
    "--start-timeout",
    group="Limits",
    metavar="SECONDS",
    type=Seconds(0.001, 86400.0),
    default=10.0,
    help="For loading the handler. Default: 10.",
)
@option(
    "--grace",
    group="Limits",
    metavar="SECONDS",
    type=Seconds(0.0, 3600.0),
    default=2.0,
    help="Between asking a worker to end and forcing it. Default: 2.",
)
@option(
    "--spin",
    group="Speed",
    metavar="MICROSECONDS",
    type=click.IntRange(0, 1000),
    default=50,
    help="How long to look for the next message before sleeping, while they come fast. Default: 50.",
)
@option(
    "--log-style",
    group="Output",
    metavar="STYLE",
    type=click.Choice(report.LOG_STYLES),
    default="fc",
    help="Lines around each event on stderr: fc, lambda, json or none. Default: fc.",
)
@option(
    "--error-style",
    group="Output",
    metavar="STYLE",
    type=click.Choice(report.ERROR_STYLES),
    default="auto",
    help="A failure on stderr: text, or JSON as lambda or fc gives it. Default: auto, text on a terminal, else lambda.",
)
@option(
    "-q",
    "--quiet",
    group="Output",
    is_flag=True,
    help="On stderr only what the function writes, and its error.",
)
@click.pass_context
def run(context: click.Context, /, **given: Any) -> int:
    """Run the function HANDLER on an event and print its result.

    HANDLER is module.function, such as index.handler, pkg.mod.func, dir/index.handler or index:Class.method. Only
    the result goes to stdout; everything else goes to stderr. Every option has a variable too: --log-style is
    PIPE_INIT_LOG_STYLE.

    Exit codes: 0 success; 1 the function failed; 2 wrong usage; 3 it could not be loaded; 4 it broke the protocol;
    124 it timed out; 126 and 127 the interpreter cannot be executed; 137 out of memory; 128+n signal n ended it.
    """
    prefer_command_line(context, given, ("event", "event_file", "events"))
    options = Given(**given)
    early: Early | None = context.obj["early"]
    session = Session(options, early)
    return session.run_events() if options.events is not None else session.run_one()
