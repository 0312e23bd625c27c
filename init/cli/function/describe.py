"""Make a Function from the options of `run`. Wrong options raise CommandError.

This file knows files and the environment. It does not know how workers are started, and does not read the event.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping

import msgpack

from ...kernel.plain_classes import replace
from ...limits.confinement import Confinement
from ...limits.rlimits import CannotLimit, CannotUseCgroup, Limits
from ...log.journal import Journal
from ...log.request_lines import AUTO, SHORT, SUMMARY
from ...model import EXEC, MAX_PAYLOAD, REQUEST, TEMPLATE, Fields, Function, Metadata, Settings, new_request_id
from ...workers import launch
from ..options.kinds import absolute
from ..options.run_options import DEFAULTS, NONE, RunOptions
from ..options.usage_errors import UsageError
from .aws_region import region_of_profile
from .checks import MAX_ASKED, check_options, check_size, read_text
from .identity import Identity

WINDOW_REQUESTS = 64
"""The most unanswered requests that the init may have sent to one worker, in a run of --events."""

GROWING_WINDOW = 4
"""The most unanswered requests for one worker with --max-growth. The worker still handles them after it has grown too
much. Only then can the init replace it."""

MIB = 2**20
KIB = 1024

_AT_EXEC = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "GCONV_", "LC_")
_AT_EXEC_NAMES = frozenset(("LANG", "LANGUAGE", "LOCPATH"))


def describe_function(options: RunOptions) -> Function:
    """Return a description of the function to run, and of how to run it.

    Raises:
        CommandError: An option is wrong, or does not go together with another option.
    """
    check_options(options)
    context, metadata = read_context(options)
    given = read_variables(options.env_file, options.env)
    environment = launch.function_environment(os.environ)
    identity = identify(options, context, given, environment)
    given = {**identity.variables, **given}
    hello = configuration(options, identity, {**environment, **given})
    room = MAX_ASKED - check_size(hello, "HANDLER, its hooks, --code-dir, --layer, --name, --region and --context")
    check_size({**metadata, **http_fields(options)}, "--request, --header and --context")
    if acts_at_exec(given) or not fits_into_hello(given, room):
        environment, given = {**environment, **given}, {}
    return Function(
        command=runtime_command(options.python),
        environment=environment,
        hello={**hello, "environment": given},
        settings=settings_of(options),
        confinement=Confinement(limits_of(options)),
        memory_mb=hello["function"]["memory_mb"],
        version=hello["function"].get("version", Function.version),
        assumed_region=identity.assumed_region,
        log_style=log_style(options),
        spin_us=options.spin if len(os.sched_getaffinity(0)) > 1 else 0,
        concurrency=options.concurrency,
        workers=1 if options.events is None else options.workers,
        isolation=options.isolation,
        start_method=start_method(options),
        metadata=metadata,
    )


def read_context(options: RunOptions) -> tuple[Fields, Fields]:
    """Return (HELLO's map `function`, the fields of INVOKE) from the file of --context; ({}, {}) without a file."""
    if options.context is None:
        return {}, {}
    from .context_file import read_context_file

    context, metadata = read_context_file(options.context)
    if "request_id" in metadata and options.events is not None:
        raise UsageError("--context: request_id is for a single event; --events gives each one of its own.")
    return context, metadata


def http_fields(options: RunOptions) -> Fields:
    """Return the fields of INVOKE for an HTTP request with the largest body; {} if the run has no HTTP requests."""
    if not options.is_http:
        return {}
    from .http_request import http_metadata

    return {"http": http_metadata(options, MAX_PAYLOAD)}


def settings_of(options: RunOptions) -> Settings:
    """Return the workers' time limits, and the limits on the number of their requests."""
    alone, each_its_own = options.events is None, options.isolation == REQUEST
    window = 1 if alone or each_its_own else WINDOW_REQUESTS
    if options.max_growth is not None:
        window = min(window, GROWING_WINDOW)
    return Settings(
        start_timeout=options.start_timeout,
        grace=options.grace,
        start_attempts=1 if alone else Settings.start_attempts,
        window_requests=options.concurrency if options.concurrency > 1 else window,
        max_requests=1 if each_its_own else options.max_requests or 0,
        prestart=each_its_own and not alone,
    )


def limits_of(options: RunOptions) -> Limits:
    """Return the limits that the options set."""
    return Limits(
        memory=options.memory and options.memory * MIB,
        pids=options.pids,
        cpu_seconds=options.cpu_time,
        cpus=options.cpus,
        open_files=options.open_files,
        file_bytes=options.file_size and options.file_size * MIB,
        output_bytes=options.output_limit and options.output_limit * MIB,
        log_bytes=options.log_limit and options.log_limit * KIB,
        growth=options.max_growth and options.max_growth * MIB,
    )


def confined(options: RunOptions, function: Function, folders: list[str], journal: Journal) -> Function:
    """Return the function with the means to enforce its limits, and with a start method that they allow.

    If there are folders, call this while there is no worker.

    Args:
        options: The options of the run.
        function: The function.
        folders: The folders for workers' cgroups.
        journal: The log. It gets a message if pipe-init cannot use its own cgroup.

    Raises:
        UsageError: A cgroup that the user named cannot be used, or a limit cannot be enforced on this system.
    """

    def refused(reason: str) -> None:
        if not options.quiet:
            journal.tell(f"pipe-init: its own cgroup is not used: {reason}")

    try:
        confinement = Confinement.open(function.limits, folders, None if options.cgroup else refused)
    except CannotUseCgroup as error:
        raise UsageError(f"Invalid value for '--cgroup': {error}.") from None
    except CannotLimit as error:
        raise UsageError(f"The limits cannot be set: {error}.") from None
    method = function.start_method
    if not confinement.counts_each_worker:
        several = function.workers > 1 or function.settings.prestart
        if several or options.start_method == TEMPLATE:
            confinement.close()
            which = "several processes that serve" if several else "--start-method template"
            raise UsageError(
                f"--pids goes with {which} only in a cgroup with the controller pids (--cgroup): else the kernel "
                "counts all of them together."
            )
        method = EXEC
    return replace(function, confinement=confinement, start_method=method)


def log_style(options: RunOptions) -> str:
    """Return the style of the log lines before and after requests (log/request_lines.py) that the options choose."""
    if options.quiet:
        return "none"
    if options.log_style != AUTO:
        return options.log_style
    return SHORT if options.events is None else SUMMARY


def identify(
    options: RunOptions, context: Metadata, given: Mapping[str, str], inherited: Mapping[str, str]
) -> Identity:
    """Return the values that describe the function.

    Args:
        options: The options of the run.
        context: HELLO's map `function` from --context.
        given: The variables of -E and --env-file.
        inherited: The variables that the function inherits.
    """
    return Identity(
        options=options,
        code_dir=absolute(options.code_dir),
        runtime_dir=os.path.dirname(launch.runtime_command("")[1]),
        machine_mb=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        context=context,
        given=given,
        inherited=inherited,
        day=time.strftime("%Y/%m/%d", time.gmtime()),
        unique=os.urandom(16).hex(),
        profile_region=lambda: region_of_profile({**inherited, **given}),
    )


def configuration(options: RunOptions, identity: Identity, variables: Mapping[str, str]) -> Fields:
    """Return the fields of HELLO that the options decide. Leave out a field if its option has the default.

    Args:
        options: The options of the run.
        identity: The values that describe the function.
        variables: The environment that the function will have.
    """
    fields: Fields = {
        "handler": options.handler,
        "code_dir": absolute(options.code_dir),
        "function": {**identity.function, "timeout_ms": math.ceil(options.timeout * 1000)},
        **options.hooks,
    }
    for name in ("type", "concurrency", "bytes", "log_level"):
        if (value := getattr(options, name)) != DEFAULTS[name]:
            fields[name] = value
    if options.initializer is not None or options.pre_stop is not None:
        fields["init_request_id"] = new_request_id()
    if options.layer:
        fields["layers"] = [absolute(folder) for folder in options.layer]
    if options.platform != NONE:
        fields["platform"] = options.effective_platform
    if options.log_style == "json" or variables.get("AWS_LAMBDA_LOG_FORMAT", "").lower() == "json":
        fields["log_format"] = "json"
    return fields


def start_method(options: RunOptions) -> str:
    """Return how to start workers. For a single event, a template would only cost time."""
    if options.start_method != "auto":
        return options.start_method
    several = options.workers > 1 or options.isolation == REQUEST
    return TEMPLATE if several and options.events is not None else EXEC


def fits_into_hello(variables: Mapping[str, str], room: int) -> bool:
    """Return whether HELLO can carry these variables.

    Args:
        variables: The variables for the function.
        room: How many more bytes fit into HELLO's head.
    """
    try:
        return len(msgpack.packb({"environment": variables})) <= room
    except UnicodeEncodeError:
        return False  # a value is not UTF-8, which only execve(2) can pass on


def runtime_command(python: str | None) -> list[str]:
    """Return the command that runs the runtime.

    Args:
        python: The value of --python: an interpreter's program, or the folder of a virtual environment. None for the
            interpreter that runs pipe-init.
    """
    if python is None:
        return launch.runtime_command(launch.this_python())
    inside = os.path.join(python, "bin", "python")
    program = os.path.abspath(inside) if os.path.isdir(python) else python
    return launch.runtime_command(program, [os.path.dirname(os.path.dirname(os.path.abspath(msgpack.__file__)))])


def acts_at_exec(variables: Mapping[str, str]) -> bool:
    """Return whether the interpreter or libc reads one of these variables only when a process starts."""
    return any(name in _AT_EXEC_NAMES or name.startswith(_AT_EXEC) for name in variables)


def read_variables(files: Iterable[str], pairs: Iterable[str]) -> dict[str, str]:
    """Return the variables of --env-file and --env. A later value replaces an earlier one, and --env replaces files.

    Raises:
        UsageError: A file cannot be read, or a text is not a variable.
    """
    variables: dict[str, str] = {}
    for path in files:
        variables |= read_env_file(path)
    return variables | dict(_pair(pair, "--env") for pair in pairs)


def read_env_file(path: str) -> dict[str, str]:
    """Return the variables of a file in the form of Docker's --env-file: K=V or K in each line, and # for comments.

    Raises:
        UsageError: The file cannot be read, or a line is not a variable.
    """
    lines = [line.strip() for line in read_text("--env-file", path).split("\n")]
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#"))
    return dict(_pair(line, f"--env-file {path}, line {number}") for number, line in numbered)


def _pair(text: str, where: str) -> tuple[str, str]:
    """Return (name, value) of the text K=V, or of the text K, for which the value comes from pipe-init's environment.

    Args:
        text: The text.
        where: The place of the text, for an error message.

    Raises:
        UsageError: The text has another form, or pipe-init's environment has no such variable.
    """
    name, assigned, value = text.partition("=")
    if not name or name != name.strip() or "\0" in text:
        raise UsageError(f"{where}: {text!r} is not NAME=VALUE.")
    if name.startswith("export "):
        raise UsageError(f"{where}: {text!r} is for a shell; without 'export' it is NAME=VALUE.")
    if assigned:
        return name, value
    if name not in os.environ:
        raise UsageError(f"{where}: there is no variable {name} to pass on; {name}=VALUE gives it one.")
    return name, os.environ[name]
