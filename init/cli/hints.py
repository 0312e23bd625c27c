"""One line that says what to do, for errors of functions that were written for another convention.

It looks at an error that is already told, at the options, and at the names of the function's files. It changes
nothing, and it runs nothing. What an error holds came from a hostile process: nothing of it is trusted or repeated
unless it is an identifier.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .platform import FC, LAMBDA, NONE

MAX_TEXT = 1024
"""Characters of a message or of a line of code that are looked at."""

MAX_STACK = 100
"""Entries of a stack that are looked at."""

MAX_FILE = 2**20
"""Bytes of a source file that are looked at."""

MAX_ENTRIES = 2000
"""Entries of folders that are looked at in search of a file."""

USUAL_MODULES = ("index", "lambda_function", "main", "app", "handler", "function")
USUAL_FUNCTIONS = ("handler", "lambda_handler", "main_handler", "main", "handle", "app", "application")
"""What platforms and frameworks call them, the most frequent first."""

_DEFINED = re.compile(rb"^(?:(?:async[ \t]+)?def[ \t]+(\w+)[ \t]*\(|(app|application|handler)[ \t]*=[^=])", re.M)
_NOT_TEXT = re.compile(
    r"the JSON object must be str, bytes or bytearray, not (?:dict|list|int|float|bool|NoneType)"
    r"|Input must be bytes, bytearray, memoryview, or str"
    r"|Expected string or (?:C-contiguous )?bytes"
    r"|decoding to str: need a bytes-like object"
    r"|argument should be a bytes-like object or ASCII string, not"
    r"|'(?:dict|list|int|float|bool|NoneType|str)' object has no attribute 'decode'"
)
_NOT_JSON = re.compile(r"line \d+ column \d+ \(char \d+\)")
_NOT_PARSED = re.compile(r"'bytes' object has no attribute '(?:get|keys|items|values)'|byte indices must be integers")
_NO_ATTRIBUTE = re.compile(r"'(\w+)' object has no attribute '(\w+)'")
_NO_MODULE = re.compile(r"No module named '([A-Za-z_]\w*)[\w.]*'$")
_VARIABLE = re.compile(r"'((?:AWS|LAMBDA|FC|ALIBABA_CLOUD)_[A-Z_]+|_HANDLER)'")
_EVENT = re.compile(r"\b(?:event|evt)\b")
_WHOLE_EVENT = re.compile(r"\b(?:loads|str|b64decode)\(\s*(\w+)\s*[,)]|\b(\w+)\s*\.\s*decode\(")
_EVENT_NAMES = frozenset(("event", "evt", "e", "payload", "data", "body", "request", "req"))
_REQUEST = frozenset((
    "get_json", "get_data", "get_body", "args", "form", "files", "values", "json", "is_json", "method", "headers",
    "path", "url", "cookies", "params", "route_params", "remote_addr",
))  # fmt: skip
"""Attributes of the request objects of Flask (Google Cloud Functions) and of Azure Functions."""

_WANTS_REQUEST = (
    "the handler wants a web request, as from Google Cloud Functions, Azure or Knative, and gets an event; make it a "
    "WSGI application, such as functions_framework.create_app(…), and use --request"
)


@dataclass(frozen=True)
class Setting:
    """What of the options a hint depends on.

    Attributes:
        handler: HANDLER as given.
        code_dir: --code-dir as given.
        platform: The effective platform.
        raw: Whether the function gets bytes.
        http: Whether it is sent HTTP requests.
    """

    handler: str
    code_dir: str = "."
    platform: str = LAMBDA
    raw: bool = False
    http: bool = False


def hint(problem: Mapping[str, Any], setting: Setting) -> str:
    """Return what to do about an error, one line without a line break; "" if nothing is known.

    Args:
        problem: ERROR's metadata.
        setting: What was asked for.
    """
    kind, message = _text(problem.get("error_type")), _text(problem.get("error_message"))
    if kind == "Runtime.UnmarshalError":
        return _of_event(message, setting)
    if kind == "Runtime.MarshalError":
        return _of_result(message, setting)
    if kind.startswith("Runtime."):
        return _of_loading(kind, message, setting)
    if kind in ("KeyError", "NoRegionError"):
        return _of_variable(kind, message, setting)
    lines = list(_code(problem))
    return (
        _of_event_form(message, lines, setting)
        or _of_request(message, lines)
        or _of_order(message, lines)
        or _of_wsgi(message, lines, setting)
    )


# While the function loads


def _of_loading(kind: str, message: str, setting: Setting) -> str:
    if kind == "Runtime.ImportModuleError" and "(looked for" not in message:
        missing = _NO_MODULE.search(message)
        if missing is None:
            return ""
        return (
            f"install {missing[1]} into the function's Python, or name the one that has it with --python, or a folder "
            "that has it with --layer"
        )
    if kind not in ("Runtime.ImportModuleError", "Runtime.HandlerNotFound", "Runtime.MalformedHandlerName"):
        return ""
    if not _is_about_handler(kind, message, setting.handler):
        return _of_hook(message, setting)
    found = _find(setting)
    if found is None:
        return ""
    folder, module, function = found
    name = f"{module}.{function}"
    if not f"{folder}{name}".isprintable():
        return ""
    from shlex import quote  # something has failed already: time does not matter any more

    place = "" if os.path.normpath(folder) == os.path.normpath(setting.code_dir) else f" -C {quote(folder)}"
    if name == setting.handler and not place:
        return ""
    what = " (HANDLER is module.function, not a file)" if ".py" in setting.handler else ""
    return f"try `pipe-init run {name}{place}`{what}"


def _of_hook(message: str, setting: Setting) -> str:
    """Return the name that is most like the one of a hook that was not found."""
    found = re.match(r"Handler '(\w+)' missing on module '([\w.]+)'", message)
    if found is None:
        return ""
    from difflib import get_close_matches  # something has failed already: time does not matter any more

    names = _functions(os.path.join(setting.code_dir, *found[2].split(".")) + ".py")
    close = get_close_matches(found[1], names, 1)
    return f"there is {found[2]}.{close[0]}" if close else ""


def _is_about_handler(kind: str, message: str, handler: str) -> bool:
    """Whether it is HANDLER that was not found, and not a hook."""
    if kind == "Runtime.MalformedHandlerName":
        return message.startswith(f"Bad handler '{handler}'")
    quoted = re.search(r"'([^']*)'", message)
    return quoted is not None and quoted[1].rpartition(".")[2] in re.split(r"[./:]", handler)


def _find(setting: Setting) -> tuple[str, str, str] | None:
    """Return (folder, module, function) of what HANDLER most likely means."""
    for place, modules, function in _readings(setting):
        chosen = _choose(_functions(os.path.join(place, *modules) + ".py"), function)
        if chosen:
            return os.path.normpath(place), ".".join(modules), chosen
    return None


def _readings(setting: Setting) -> Iterator[tuple[str, list[str], str]]:
    """Yield (folder, modules, function) of all that HANDLER may mean, whatever way it is spelled, likely ones first."""
    handler = setting.handler.strip()
    if "\0" in handler:
        return
    place, _, last = handler.rstrip("/").rpartition("/")
    folder = os.path.join(setting.code_dir, place or ("/" if handler.startswith("/") else ""))
    parts = [part for part in re.split(r"[.:()]+", last) if part]
    if "py" in parts[1:]:
        parts.remove("py")  # it is a file's name
    for count in range(len(parts), 0, -1):
        yield folder, parts[:count], "".join(parts[count : count + 1])
    if place and len(parts) == 1:  # index/handler
        yield os.path.dirname(folder), [os.path.basename(folder)], parts[0]
    for usual in USUAL_MODULES:
        yield os.path.join(folder, last), [usual], ""
    if parts:
        below = list(islice(_folders_with(setting.code_dir, f"{parts[0]}.py"), 2))
        if len(below) == 1:  # one of several would be a guess
            yield below[0], parts[:1], "".join(parts[1:2])
    for usual in USUAL_MODULES:
        yield setting.code_dir, [usual], ""


def _folders_with(code_dir: str, name: str) -> Iterator[str]:
    """Yield the folders, up to two below the code directory, that have a file of this name."""
    seen, level = 0, [code_dir]
    for _ in range(3):
        below: list[str] = []
        for folder in level:
            if os.path.isfile(os.path.join(folder, name)):
                yield folder
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        seen += 1
                        if seen > MAX_ENTRIES:
                            return
                        if entry.name.isidentifier() and entry.is_dir():
                            below.append(entry.path)
            except OSError:
                continue
        level = sorted(below)


def _functions(path: str) -> list[str]:
    """Return the names that a file defines at its top and that may be handlers."""
    if not os.path.isfile(path):
        return []
    try:
        with open(path, "rb") as file:
            source = file.read(MAX_FILE)
    except OSError:
        return []
    names = [(one or other).decode("utf-8", "replace") for one, other in _DEFINED.findall(source)]
    return [name for name in names if name.isidentifier()]


def _choose(names: list[str], wanted: str) -> str:
    """Return the name that is meant: the same, a similar one, a usual one, or the only one; "" if there is none."""
    if wanted in names:
        return wanted
    if not names:
        return ""
    from difflib import get_close_matches  # as above

    close = get_close_matches(wanted, names, 1) if wanted else []
    usual = [name for name in USUAL_FUNCTIONS if name in names]
    return next(iter((*close, *usual)), names[0] if len(names) == 1 else "")


# While it runs


def _of_event(message: str, setting: Setting) -> str:
    if not setting.raw and not setting.http and _NOT_JSON.search(message):
        return "with --raw the handler gets bytes, which need not be JSON"
    if "this function takes an event" not in message or not setting.http:
        return ""
    if setting.platform != NONE:
        return ""  # it reads its event as a stream
    return "with --platform lambda or fc a handler gets the request as the event of that platform's HTTP trigger"


def _of_result(message: str, setting: Setting) -> str:
    if "codec can't decode byte" not in message or setting.raw or setting.http:
        return ""
    return 'with --bytes base64 bytes become {"base64": …}, and with --raw they go out as they are'


def _of_variable(kind: str, message: str, setting: Setting) -> str:
    found = _VARIABLE.search(message)
    name = "AWS_REGION" if kind == "NoRegionError" else found[1] if found else ""
    if not name:
        return ""
    theirs = FC if name.startswith(("FC_", "ALIBABA_")) else LAMBDA
    if theirs != setting.platform:
        return f"--platform {theirs} sets the variables of that platform"
    return f"-E {name}=… gives the function this variable"


def _of_event_form(message: str, lines: list[str], setting: Setting) -> str:
    if not setting.raw and _NOT_TEXT.search(message):
        for line in lines:
            found = _WHOLE_EVENT.search(line)
            if found and (found[1] or found[2]) in _EVENT_NAMES:
                how = "--platform fc" if setting.http else "--raw, or --platform fc,"
                return f"the event is parsed already; with {how} the handler gets bytes to parse"
    if setting.raw and _NOT_PARSED.search(message) and any(_EVENT.search(line) for line in lines):
        what = "--platform fc" if setting.platform == FC else "--raw"
        return f"the event is bytes with {what}; without it the handler gets parsed JSON"
    return ""


def _of_order(message: str, lines: list[str]) -> str:
    found = _NO_ATTRIBUTE.search(message)
    owner, name = (found[1], found[2]) if found else ("", "")
    swapped = "the handler is called with (event, context); (context, event) is the order of nuclio: swap them"
    if found and owner != "Context" and any(re.search(rf"\b(?:context|ctx)\.{name}\b", line) for line in lines):
        return swapped
    if owner == "Context" and any(re.search(rf"\b(?:event|evt)\.{name}\b", line) for line in lines):
        return swapped
    if "'Context' object is not subscriptable" in message and any(_EVENT.search(line) for line in lines):
        return swapped
    return ""


def _of_request(message: str, lines: list[str]) -> str:
    found = _NO_ATTRIBUTE.search(message)
    if not found:
        return ""
    if found[2] == "request" and any("context.request" in line for line in lines):
        return _WANTS_REQUEST
    if found[1] == "dict" and any(re.search(rf"\bcloud_?event\.{found[2]}\b", line) for line in lines):
        return "annotate the parameter with pipe_runtime.cloudevent.CloudEvent to get an event object"
    if found[2] in _REQUEST and any(
        re.search(rf"\b(?:request|req|flask_request)\.{found[2]}\b", line) for line in lines
    ):
        return _WANTS_REQUEST
    return ""


def _of_wsgi(message: str, lines: list[str], setting: Setting) -> str:
    if "'Context' object is not callable" in message:
        return "a WSGI application whose second parameter is not called start_response needs --type wsgi"
    missing = re.search(r"(\w+)\(\) missing \d required positional arguments?: '(\w+)'", message)
    if missing and missing[1] == re.split(r"[.:]", setting.handler)[-1] and not lines:
        return "a handler takes (event, context), (event) or nothing; for an application there is --type wsgi or asgi"
    return ""


def _code(problem: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of code of an error's stack, the most recent call first."""
    stack = problem.get("stack")
    for entry in reversed(stack[-MAX_STACK:] if isinstance(stack, list) else []):
        if isinstance(entry, list) and len(entry) == 4 and (line := _text(entry[3])):
            yield line


def _text(value: object) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""
