"""Read the single event of a run, or open the source of many events.

This file knows descriptors, and the options that say where the event is. It does not know the function.
"""

from __future__ import annotations

import json
import os
import select
import stat

import click

from ...kernel.signals import Signals
from ...model import MAX_PAYLOAD
from ..options.run_options import RunOptions
from .body import Body, read_some

MAX_EVENT = 1024 * 1024 * 1024
"""Bytes of a single event that is read before it is sent."""


def open_input(name: str) -> int:
    """Return a descriptor of the file `name`, or of stdin for "-".

    Raises:
        click.UsageError: The file cannot be read.
    """
    if name == "-":
        return 0
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        os.read(descriptor, 0)
    except OSError as error:
        raise click.UsageError(f"Cannot read {name!r}: {error.strerror}.") from None
    return descriptor


def read_event(options: RunOptions, signals: Signals) -> bytes | Body:
    """Return the single event: its bytes, or a Body if it is sent in pieces.

    An event that has to be JSON is read whole and checked. The bytes of a large file, or of anything that is no regular
    file, are read while they are sent. For an HTTP request the event is its body, and there is none by default.

    Args:
        options: The options of the run.
        signals: The signals that may ask pipe-init to end meanwhile.

    Raises:
        click.UsageError: The event cannot be read, is too large, or is not JSON.
        click.exceptions.Exit: A signal came before the event was there.
    """
    if options.event_file is not None:
        descriptor = open_input(options.event_file)
        source = "stdin" if options.event_file == "-" else repr(options.event_file)
        if (options.raw or options.is_http) and not is_small_file(descriptor):
            return Body(b"", descriptor)
        size = os.fstat(descriptor).st_size
        data = read_up_to(MAX_EVENT + 1, descriptor, source, signals) if size <= MAX_EVENT else b""
        if descriptor != 0:
            os.close(descriptor)
    else:
        default = "" if options.is_http else "{}"
        data = (default if options.event is None else options.event).encode("utf-8", "surrogateescape")
        source, size = "--event", 0
    if max(size, len(data)) > MAX_EVENT:
        raise click.UsageError(f"The event in {source} has more than {MAX_EVENT} bytes.")
    if not options.raw and not options.is_http:
        try:
            json.loads(data.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"The event in {source} is not JSON: {error}. (--raw takes any text.)") from None
    return data if len(data) <= MAX_PAYLOAD else Body(data)


def is_small_file(descriptor: int) -> bool:
    """Return whether this is a regular file that fits into one frame."""
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_size <= MAX_PAYLOAD


def read_up_to(limit: int, descriptor: int, source: str, signals: Signals) -> bytes:
    """Read a descriptor to its end, or until there are at least `limit` bytes, and return them.

    Args:
        limit: The number of bytes after which to stop.
        descriptor: The descriptor.
        source: What the error message calls it.
        signals: As for read_event.

    Raises:
        click.UsageError: It cannot be read.
        click.exceptions.Exit: A signal came before its end.
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
            signals.drain()  # a child has died: the supervisor collects it later
            continue
        data, error = read_some(descriptor)
        if error is not None:
            raise click.UsageError(f"Cannot read {source}: {error.strerror}.")
        if data == b"":
            break
        pieces.append(data or b"")
        size += len(pieces[-1])
    signals.wake()
    return b"".join(pieces)
