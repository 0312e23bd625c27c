"""Define the command `pipe-init run` for click. Its options come from the table in options/run_options.py."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from .options.grouped import Decorated, DocumentedCommand, option
from .options.kinds import Flag
from .options.run_options import OPTIONS, RunOptions, choose

EXAMPLES = """
pipe-init run index.handler
pipe-init run index.handler -C examples/hello -e '{"name": "world"}'
pipe-init run app.main.handler -f event.json -t 3 -m 256
pipe-init run index.handler --raw -e 'plain text'
pipe-init run index.handler --platform fc -f event.json
pipe-init run app.handler --platform lambda --name shop --region eu-central-1
pipe-init run app.app --request 'GET /items?page=2' -i
pipe-init run app.app --request '/items' -H 'Content-Type: application/json' -e '{"name": "pen"}'
pipe-init run stream.handler -e '{"count": 1000000}' | head -n 3
pipe-init run index.handler --initializer index.initialize --context context.json
cat events.jsonl | pipe-init run index.handler --events - -q > results.jsonl
pipe-init run tasks.handler --events events.jsonl --concurrency 10
pipe-init run resize.handler --events events.jsonl --workers 4 --max-requests 1000
pipe-init run plugin.handler --events events.jsonl --isolation request
"""


def declare_options(command: Decorated) -> Decorated:
    """Add the options of `run` to a click command."""
    for each in reversed(list(OPTIONS.values())):
        settings: dict[str, Any] = {"group": each.group, "help": each.help, "default": each.default}
        if isinstance(each.kind, Flag):
            settings["is_flag"] = True
        else:
            settings |= {"kind": each.kind, "metavar": each.metavar, "multiple": each.repeatable}
        names = filter(None, (each.short, each.long))
        command = option(*names, **settings)(command)
    return command


def options_of(context: click.Context) -> RunOptions:
    """Return the options that click has read from the command line and the environment."""

    def of(source: ParameterSource) -> dict[str, Any]:
        return {name: value for name, value in context.params.items() if context.get_parameter_source(name) is source}

    given = of(ParameterSource.COMMANDLINE)
    return choose(given.pop("handler"), given, of(ParameterSource.ENVIRONMENT))


@click.command(cls=DocumentedCommand, epilog=EXAMPLES)
@click.argument("handler")
@declare_options
@click.pass_context
def run(context: click.Context, /, **given: Any) -> RunOptions:
    """Run the function HANDLER on an event and print its result.

    HANDLER is module.function, such as index.handler, pkg.mod.func, dir/index.handler or index:Class.method. Only
    the result goes to stdout; everything else goes to stderr. Every option has an environment variable, such as
    PIPE_INIT_LOG_STYLE for --log-style.

    Exit codes: 0 success; 1 the function failed; 2 wrong usage; 3 it could not be loaded; 4 it broke the protocol;
    124 it timed out; 126 and 127 the interpreter cannot be executed; 137 out of memory; 128+n signal n ended it.
    """
    return options_of(context)
