"""From the options of `run` to a Function and an event. click.ClickException: what is wrong with them."""

from __future__ import annotations

import json
import math
import os
import select
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from pipe_runtime.frames import MAX_HEAD

from .. import launch, limits
from ..policy import Settings
from ..request import MAX_PAYLOAD, Function
from ..signals import Signals
from .environment import acts_at_exec, read_env_file, read_pairs
from .lines import READ_SIZE

MAX_HELLO_ENVIRONMENT = MAX_HEAD // 8
"""Bytes of names and values that go into HELLO; more goes to the worker by exec. msgpack makes up to three times as
many of them (one letter and no value are three bytes), and the names of handler and folder may be long, too."""

MAX_HANDLER = 4096
"""Characters of a handler's name: as many as a path may have (PATH_MAX)."""

WINDOW_REQUESTS = 64
"""Requests of --events that may be on their way to a worker."""


@dataclass(frozen=True)
class Given:
    """The options of `run` as given; run.py has their help.

    timeout, start_timeout, grace: seconds. memory: MB, None for no limit. spin: microseconds.
    """

    handler: str
    code_dir: Path
    event: str | None
    event_file: str | None
    events: str | None
    raw: bool
    timeout: float
    start_timeout: float
    grace: float
    memory: int | None
    env: tuple[str, ...]
    env_file: tuple[str, ...]
    python: str | None
    spin: int
    log_style: str
    error_style: str
    quiet: bool


def describe_function(options: Given) -> Function:
    """What to run, from the options. click.ClickException: a folder, a file or a pair that is not right."""
    check_names(options)
    given: dict[str, str] = {}
    for path in options.env_file:
        given |= read_env_file(path)
    given |= read_pairs(options.env)
    environment = launch.function_environment(os.environ)
    if acts_at_exec(given) or not fits_into_hello(given):
        environment, given = {**environment, **given}, {}
    memory_mb = options.memory or limits.physical_memory() // 2**20
    return Function(
        command=find_command(options.python),
        environment=environment,
        hello={
            "handler": options.handler,
            "code_dir": str(options.code_dir.absolute()),
            "environment": given,
            "function": {"memory_mb": memory_mb, "timeout_ms": math.ceil(options.timeout * 1000)},
        },
        settings=Settings(
            start_timeout=options.start_timeout,
            grace=options.grace,
            start_attempts=1 if options.events is None else Settings.start_attempts,
            window_requests=1 if options.events is None else WINDOW_REQUESTS,
        ),
        memory_limit=None if options.memory is None else options.memory * 2**20,
        memory_mb=memory_mb,
        log_style="none" if options.quiet else options.log_style,
        spin_us=options.spin if len(os.sched_getaffinity(0)) > 1 else 0,
    )


def check_names(options: Given) -> None:
    """click.UsageError: there is no such folder, or the protocol has no room for a name, or no way to spell it."""
    folder = str(options.code_dir)
    if not os.path.isdir(folder):
        raise click.UsageError(f"--code-dir: there is no folder {folder!r}.")
    if len(options.handler) > MAX_HANDLER:
        raise click.UsageError(f"HANDLER has {len(options.handler)} characters; the limit is {MAX_HANDLER}.")
    for what, name in (("HANDLER", options.handler), ("--code-dir", str(options.code_dir.absolute()))):
        if not is_utf8(name):
            raise click.UsageError(f"{what}: {name!r} is not UTF-8 text; give it another name.")


def is_utf8(text: str) -> bool:
    """Whether an argument came as UTF-8: other bytes have become lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fits_into_hello(variables: Mapping[str, str]) -> bool:
    """Whether HELLO can carry them."""
    try:
        return sum(len(f"{name}{value}".encode()) for name, value in variables.items()) <= MAX_HELLO_ENVIRONMENT
    except UnicodeEncodeError:
        return False  # exec takes any bytes


def find_command(python: str | None) -> list[str]:
    """Our runtime under the interpreter that --python names: a program, or a virtual environment's folder."""
    if python is None:
        return launch.runtime_command(launch.this_python())
    import msgpack

    inside = os.path.join(python, "bin", "python")
    program = os.path.abspath(inside) if os.path.isdir(python) else python
    return launch.runtime_command(program, [os.path.dirname(os.path.dirname(os.path.abspath(msgpack.__file__)))])


def open_input(name: str) -> int:
    """A descriptor of the file `name`, of stdin for "-". click.UsageError: it cannot be read."""
    if name == "-":
        return 0
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        os.read(descriptor, 0)
    except OSError as error:
        raise click.UsageError(f"Cannot read {name!r}: {error.strerror}.") from None
    return descriptor


def read_event(options: Given, signals: Signals) -> bytes:
    """The single event's bytes. click.UsageError: it cannot be read, is too large, or is not JSON.

    signals: what comes meanwhile. click.exceptions.Exit: an end was asked for before the event was there.
    """
    if options.event_file is not None:
        descriptor = open_input(options.event_file)
        source = "stdin" if options.event_file == "-" else repr(options.event_file)
        data = read_up_to(MAX_PAYLOAD + 1, descriptor, source, signals)
        if descriptor != 0:
            os.close(descriptor)
    else:
        data = ("{}" if options.event is None else options.event).encode("utf-8", "surrogateescape")
        source = "--event"
    if len(data) > MAX_PAYLOAD:
        raise click.UsageError(f"The event in {source} has more than {MAX_PAYLOAD} bytes.")
    if not options.raw:
        try:
            json.loads(data.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"The event in {source} is not JSON: {error}. (--raw takes any text.)") from None
    return data


def read_up_to(limit: int, descriptor: int, source: str, signals: Signals) -> bytes:
    """What is there until the end of the descriptor, but not much more than `limit` bytes.

    click.UsageError, which names `source`: it cannot be read. click.exceptions.Exit: as read_event.
    """
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    waiting.register(signals.descriptor, select.POLLIN)
    pieces, size = [], 0
    while size < limit:
        ready = dict(waiting.poll())
        if signals.endings:
            raise click.exceptions.Exit(128 + signals.endings[0])
        if descriptor not in ready:
            signals.drain()  # a child's death: it will be seen to when it is missed
            continue
        try:
            data = os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            continue
        except OSError as error:
            raise click.UsageError(f"Cannot read {source}: {error.strerror}.") from None
        if not data:
            break
        pieces.append(data)
        size += len(data)
    signals.wake()
    return b"".join(pieces)
