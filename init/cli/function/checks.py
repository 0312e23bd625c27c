"""Check that the options of `run` go together, and that their values fit into the protocol's frames.

If a check fails, it raises UsageError, whose message says what is wrong. This file knows folders, but not the
environment.
"""

from __future__ import annotations

import os

import msgpack

from pipe_runtime.wire.frames import MAX_HEAD, MAX_ITEMS

from ...model import REQUEST, Metadata
from ..options.kinds import absolute
from ..options.run_options import EVENT_SOURCES, RunOptions
from ..options.usage_errors import UsageError
from .identity import MAX_NAME, is_name

MAX_ASKED = MAX_HEAD - 1024
"""The most bytes of a frame's head that options may fill. The supervisor adds fields of its own to the head."""

MAX_HANDLER = 4096
"""The most characters of a handler's name. Linux has the same limit for a path (PATH_MAX)."""


def check_options(options: RunOptions) -> None:
    """Raise UsageError if an option is wrong, or does not go together with another option."""
    check_event_sources(options)
    check_names(options)
    check_http(options)
    check_workers(options)


def check_event_sources(options: RunOptions) -> None:
    """Raise UsageError if several options name a source of events, or if --unordered is given without --events."""
    chosen = [name for name in EVENT_SOURCES if getattr(options, name) is not None]
    if len(chosen) > 1:
        names = " and ".join("--" + name.replace("_", "-") for name in chosen)
        raise UsageError(f"{names} cannot be given together: choose one.")
    if options.unordered and options.events is None:
        raise UsageError("--unordered is for --events.")


def check_names(options: RunOptions) -> None:
    """Raise UsageError if a folder does not exist, or if the protocol cannot carry a name."""
    folders = [("--code-dir", options.code_dir), *(("--layer", folder) for folder in options.layer)]
    for what, folder in folders:
        if not os.path.isdir(folder):
            raise UsageError(f"{what}: there is no folder {folder!r}.")
    if len(options.layer) > MAX_ITEMS:
        raise UsageError(f"--layer: {len(options.layer)} folders; the limit is {MAX_ITEMS}.")
    hooks = [("--" + hook.replace("_", "-"), name) for hook, name in options.hooks.items()]
    names = [("HANDLER", options.handler), *hooks]
    for what, text in (("--name", options.name), ("--region", options.region)):
        if text is not None and not is_name(text):
            raise UsageError(f"{what}: {text[:100]!r} is not 1 to {MAX_NAME} printable characters.")
    for what, name in names:
        if len(name) > MAX_HANDLER:
            raise UsageError(f"{what} has {len(name)} characters; the limit is {MAX_HANDLER}.")
    for what, name in hooks:
        if not name:
            raise UsageError(f"{what}: the name is empty; it has HANDLER's form, such as index.initialize.")
    for what, name in (*names, *((what, absolute(folder)) for what, folder in folders)):
        if name.encode(errors="ignore").decode() != name:  # bytes that are not UTF-8 have become lone surrogates
            raise UsageError(f"{what}: {name!r} is not UTF-8 text; give it another name.")


def check_http(options: RunOptions) -> None:
    """Raise UsageError if an option for HTTP is given, but the run has no HTTP request.

    http_request.py checks the values of these options.
    """
    if options.type == "event" and (options.is_http or options.include):
        raise UsageError("--request, --header and --include are for HTTP: not with --type event.")
    if options.include and not options.is_http:
        raise UsageError("--include is for HTTP: it needs --request, --header or --type wsgi or asgi.")


def check_workers(options: RunOptions) -> None:
    """Raise UsageError if options about processes do not go together."""
    if options.isolation == REQUEST and options.concurrency > 1:
        raise UsageError(
            "--concurrency is for requests that share a worker; with --isolation request none do: use --workers."
        )
    if options.isolation == REQUEST and options.max_requests is not None:
        raise UsageError("--max-requests goes without --isolation request, where it is 1.")
    if options.isolation == REQUEST and options.max_growth is not None:
        raise UsageError("--max-growth goes without --isolation request, where no worker serves a second one.")
    if options.pre_freeze is not None and (options.workers > 1 or options.isolation == REQUEST):
        raise UsageError("--pre-freeze is for a single worker that serves all events.")


def check_size(fields: Metadata, what: str) -> int:
    """Return the size of a head's fields in bytes.

    Args:
        fields: The fields.
        what: The names of the options that the fields come from, for an error message.

    Raises:
        UsageError: The fields have more than MAX_ASKED bytes.
    """
    size = len(msgpack.packb(fields))
    if size > MAX_ASKED:
        raise UsageError(f"{what} make {size} bytes together; the limit is {MAX_ASKED}.")
    return size


def read_text(option: str, path: str) -> str:
    """Return the text of the file that an option names.

    Raises:
        UsageError: The file cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{option}: cannot read {path!r}: {reason}.") from None
