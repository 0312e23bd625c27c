"""Turn the options of `run` into a Function. Wrong options raise click.ClickException.

This file knows files and the environment. It knows nothing of workers, and does not read the event.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgpack

from pipe_runtime.wire.frames import MAX_HEAD, MAX_ITEMS

from ...limits import rlimits
from ...limits.confinement import Confinement
from ...log import formats
from ...model import EXEC, MAX_PAYLOAD, REQUEST, TEMPLATE, Function, Settings, new_request_id
from ...workers import launch
from ..results.http import http_metadata
from .aws_region import region_of_profile
from .confine import limits_of
from .context_file import read_context_file
from .environment import acts_at_exec, read_env_file, read_pairs
from .platform import LAMBDA, MAX_NAME, NONE, Asked, identify, is_name

TYPES = ("auto", "event", "wsgi", "asgi")
"""The kinds of function; auto: the runtime looks at what the handler is."""

BYTES_FORMS = ("text", "base64")
"""Values of --bytes: bytes in a JSON result become their text, or an object with their base64."""

LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL")
"""Lambda's names of levels, and Python's."""

HOOKS = ("initializer", "pre_stop", "pre_freeze")

MAX_ASKED = MAX_HEAD - 1024
"""Bytes of a head that options may fill: the supervisor has fields of its own to put in."""

MAX_HANDLER = 4096
"""Characters of a handler's name: as many as a path may have (PATH_MAX)."""

WINDOW_REQUESTS = 64
"""Requests of --events that may be on their way to a worker."""

GROWING_WINDOW = 4
"""The same where a worker is to be replaced when it has grown: it is, after what it has been sent."""


@dataclass(frozen=True)
class Given:
    """The options of `run` as given; run.py has their help.

    timeout, start_timeout, grace, cpu_time: seconds. memory, max_growth, file_size, output_limit: MB. log_limit: KB.
    spin: microseconds. None: no limit.
    """

    handler: str
    code_dir: Path
    event: str | None
    event_file: str | None
    events: str | None
    raw: bool
    bytes: str
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
    type: str
    concurrency: int
    workers: int
    isolation: str
    start_method: str
    max_requests: int | None
    max_growth: int | None
    unordered: bool
    initializer: str | None
    pre_stop: str | None
    pre_freeze: str | None
    layer: tuple[Path, ...]
    context: str | None
    request: str | None
    header: tuple[str, ...]
    include: bool
    log_level: str | None
    pids: int | None
    cpu_time: int | None
    cpus: float | None
    open_files: int | None
    file_size: int | None
    output_limit: int | None
    log_limit: int | None
    cgroup: tuple[Path, ...]
    platform: str | None
    name: str | None
    region: str | None

    @property
    def has_event(self) -> bool:
        """Whether an event was given, in whatever way: of an HTTP request it is the body."""
        return any(given is not None for given in (self.event, self.event_file, self.events))

    @property
    def is_http(self) -> bool:
        """Whether the function is surely sent HTTP requests, so that events are bodies and need not be JSON."""
        return self.request is not None or bool(self.header) or self.type in ("wsgi", "asgi")

    @property
    def hooks(self) -> dict[str, str]:
        """The hooks that were given: one of HOOKS, and its name as HANDLER has one."""
        return {hook: name for hook in HOOKS if (name := getattr(self, hook)) is not None}


def describe_function(options: Given) -> Function:
    """What to run, from the options. click.ClickException: one that is not right, or does not go with another."""
    check_names(options)
    check_http(options)
    check_workers(options)
    about, metadata = ({}, {}) if options.context is None else read_context_file(options.context)
    if "request_id" in metadata and options.events is not None:
        raise click.UsageError("--context: request_id is for a single event; --events gives each one of its own.")
    given: dict[str, str] = {}
    for path in options.env_file:
        given |= read_env_file(path)
    given |= read_pairs(options.env)
    environment = launch.function_environment(os.environ)
    identity = identify(asked_of(options, about, given, environment))
    about = {**identity.function, "timeout_ms": math.ceil(options.timeout * 1000)}
    given = {**identity.variables, **given}
    hello = {"handler": options.handler, "code_dir": str(options.code_dir.absolute()), "function": about}
    hello |= optional_fields(options)
    if {**environment, **given}.get("AWS_LAMBDA_LOG_FORMAT", "").lower() == "json":
        hello["log_format"] = "json"  # said in HELLO too, so that pipe-init's own lines have the same format
    room = MAX_ASKED - check_size(hello, "HANDLER, its hooks, --code-dir, --layer, --name, --region and --context")
    http = {"http": http_metadata(options, MAX_PAYLOAD)} if options.is_http else {}
    check_size({**metadata, **http}, "--request, --header and --context")
    if acts_at_exec(given) or not fits_into_hello(given, room):
        environment, given = {**environment, **given}, {}
    each_its_own = options.isolation == REQUEST
    window_requests = 1 if options.events is None or each_its_own else WINDOW_REQUESTS
    if options.max_growth is not None:
        window_requests = min(window_requests, GROWING_WINDOW)
    return Function(
        command=find_command(options.python),
        environment=environment,
        hello={**hello, "environment": given},
        settings=Settings(
            start_timeout=options.start_timeout,
            grace=options.grace,
            start_attempts=1 if options.events is None else Settings.start_attempts,
            window_requests=options.concurrency if options.concurrency > 1 else window_requests,
            max_requests=1 if each_its_own else options.max_requests or 0,
            prestart=each_its_own and options.events is not None,
        ),
        confinement=Confinement(limits_of(options)),
        memory_mb=about["memory_mb"],
        version=about.get("version", Function.version),
        assumed_region=identity.assumed_region,
        log_style=log_style(options),
        spin_us=options.spin if len(os.sched_getaffinity(0)) > 1 else 0,
        concurrency=options.concurrency,
        workers=1 if options.events is None else options.workers,
        isolation=options.isolation,
        start_method=start_method(options),
        max_growth=None if options.max_growth is None else options.max_growth * 2**20,
        hooks=frozenset(options.hooks),
        metadata=metadata,
    )


def log_style(options: Given) -> str:
    """Return the style of the lines around requests (formats.py) that the options ask for."""
    if options.quiet:
        return "none"
    if options.log_style != formats.AUTO:
        return options.log_style
    return formats.SHORT if options.events is None else formats.SUMMARY


def asked_of(
    options: Given, context: Mapping[str, Any], given: Mapping[str, str], inherited: Mapping[str, str]
) -> Asked:
    """Return what platform.py needs to know of the options.

    Args:
        options: As given.
        context: HELLO's `function` map of --context.
        given: The variables of -E and --env-file.
        inherited: The variables that the function inherits.
    """
    return Asked(
        platform=options.platform or LAMBDA,
        spelled_out=options.platform is not None,
        handler=options.handler,
        code_dir=str(options.code_dir.absolute()),
        runtime_dir=os.path.dirname(launch.runtime_command("")[1]),
        name=options.name,
        region=options.region,
        memory_mb=options.memory,
        machine_mb=rlimits.physical_memory() // 2**20,
        context=context,
        given=given,
        inherited=inherited,
        day=time.strftime("%Y/%m/%d", time.gmtime()),
        unique=os.urandom(16).hex(),
        profile_region=lambda: region_of_profile({**inherited, **given}),
    )


def optional_fields(options: Given) -> dict[str, Any]:
    """HELLO's fields that are left out where the option has its default."""
    fields: dict[str, Any] = dict(options.hooks)
    if options.type != "auto":
        fields["type"] = options.type
    if options.concurrency > 1:
        fields["concurrency"] = options.concurrency
    if options.initializer is not None or options.pre_stop is not None:
        fields["init_request_id"] = new_request_id()
    if options.bytes != "text":
        fields["bytes"] = options.bytes
    if options.layer:
        fields["layers"] = [str(folder.absolute()) for folder in options.layer]
    if options.platform != NONE:
        fields["platform"] = options.platform or LAMBDA
    if options.log_style == "json":
        fields["log_format"] = "json"
    if options.log_level is not None:
        fields["log_level"] = options.log_level
    return fields


def check_workers(options: Given) -> None:
    """click.UsageError: options about processes that do not go together."""
    if options.isolation == REQUEST and options.concurrency > 1:
        raise click.UsageError(
            "--concurrency is for requests that share a worker; with --isolation request none do: use --workers."
        )
    if options.isolation == REQUEST and options.max_requests is not None:
        raise click.UsageError("--max-requests goes without --isolation request, where it is 1.")
    if options.isolation == REQUEST and options.max_growth is not None:
        raise click.UsageError("--max-growth goes without --isolation request, where no worker serves a second one.")
    if options.pre_freeze is not None and (options.workers > 1 or options.isolation == REQUEST):
        raise click.UsageError("--pre-freeze is for a single worker that serves all events.")
    if options.unordered and options.events is None:
        raise click.UsageError("--unordered is for --events.")


def start_method(options: Given) -> str:
    """How workers are started. A single event needs one worker, and nothing is faster than that one by itself."""
    if options.start_method != "auto":
        return options.start_method
    several = options.workers > 1 or options.isolation == REQUEST
    return TEMPLATE if several and options.events is not None else EXEC


def check_names(options: Given) -> None:
    """click.UsageError: there is no such folder, or the protocol has no room for a name, or no way to spell it."""
    folders = [("--code-dir", options.code_dir), *(("--layer", folder) for folder in options.layer)]
    for what, folder in folders:
        if not os.path.isdir(str(folder)):
            raise click.UsageError(f"{what}: there is no folder {str(folder)!r}.")
    if len(options.layer) > MAX_ITEMS:
        raise click.UsageError(f"--layer: {len(options.layer)} folders; the limit is {MAX_ITEMS}.")
    hooks = [("--" + hook.replace("_", "-"), name) for hook, name in options.hooks.items()]
    names = [("HANDLER", options.handler), *hooks]
    for what, text in (("--name", options.name), ("--region", options.region)):
        if text is not None and not is_name(text):
            raise click.UsageError(f"{what}: {text[:100]!r} is not 1 to {MAX_NAME} printable characters.")
    for what, name in names:
        if len(name) > MAX_HANDLER:
            raise click.UsageError(f"{what} has {len(name)} characters; the limit is {MAX_HANDLER}.")
    for what, name in hooks:
        if not name:
            raise click.UsageError(f"{what}: the name is empty; it has HANDLER's form, such as index.initialize.")
    for what, name in (*names, *((what, str(folder.absolute())) for what, folder in folders)):
        if not is_utf8(name):
            raise click.UsageError(f"{what}: {name!r} is not UTF-8 text; give it another name.")


def check_http(options: Given) -> None:
    """click.UsageError: options of HTTP for what is none. What they say is checked by http_metadata()."""
    if options.type == "event" and (options.is_http or options.include):
        raise click.UsageError("--request, --header and --include are for HTTP: not with --type event.")
    if options.include and not options.is_http:
        raise click.UsageError("--include is for HTTP: it needs --request, --header or --type wsgi or asgi.")


def check_size(fields: Mapping[str, Any], what: str) -> int:
    """The packed size of a head's fields, in bytes. click.UsageError: options, named by `what`, leave no room."""
    size = packed_size(fields)
    if size > MAX_ASKED:
        raise click.UsageError(f"{what} make {size} bytes together; the limit is {MAX_ASKED}.")
    return size


def packed_size(fields: Mapping[str, Any]) -> int:
    """Bytes that a map takes in a head. UnicodeEncodeError: it has a text with a lone surrogate."""
    return len(msgpack.packb(fields))


def is_utf8(text: str) -> bool:
    """Whether an argument came as UTF-8: other bytes have become lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fits_into_hello(variables: Mapping[str, str], room: int) -> bool:
    """Whether HELLO, with `room` bytes left, can carry them."""
    try:
        return packed_size({"environment": variables}) <= room
    except UnicodeEncodeError:
        return False  # exec takes any bytes


def find_command(python: str | None) -> list[str]:
    """Our runtime under the interpreter that --python names: a program, or a virtual environment's folder."""
    if python is None:
        return launch.runtime_command(launch.this_python())
    inside = os.path.join(python, "bin", "python")
    program = os.path.abspath(inside) if os.path.isdir(python) else python
    return launch.runtime_command(program, [os.path.dirname(os.path.dirname(os.path.abspath(msgpack.__file__)))])
