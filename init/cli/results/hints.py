"""Find a hint for an error: one line that says what to do. Most hints are for functions from other platforms.

This module looks at an error that was already reported, and at the options. It changes nothing. The error's texts may
come from a hostile process. So a hint repeats only identifiers from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...log.error_formats import calls_of
from ..options.run_options import FC, LAMBDA, NONE, RunOptions
from .load_hints import of_loading

MAX_TEXT = 1024
"""The most characters to search of a message, or of a line of code."""

MAX_STACK = 100
"""The most entries to search of a stack."""

_NOT_TEXT = re.compile(
    r"the JSON object must be str, bytes or bytearray, not (?:dict|list|int|float|bool|NoneType)"
    r"|Input must be bytes, bytearray, memoryview, or str"
    r"|Expected string or (?:C-contiguous )?bytes"
    r"|decoding to str: need a bytes-like object"
    r"|argument should be a bytes-like object or ASCII string, not"
    r"|'(?:dict|list|int|float|bool|NoneType|str)' object has no attribute 'decode'"
)
_NOT_JSON = re.compile(r"line \d+ column \d+ \(char \d+\)")
_NOT_PARSED = re.compile(
    r"'bytes' object has no attribute '(?:get|keys|items|values)'"
    r"|byte indices must be integers"
    r"|a bytes-like object is required, not 'str'"
    r"|argument after \*\* must be a mapping, not bytes"
    r"|Object of type bytes is not JSON serializable"
    r"|cannot use a string pattern on a bytes-like object"
    r"|can only concatenate str \(not \"bytes\"\) to str"
)
_NO_ATTRIBUTE = re.compile(r"'(\w+)' object has no attribute '(\w+)'")
_OF_REST_API = re.compile(r"'(?:httpMethod|path|resource|pathParameters|multiValue(?:Headers|QueryStringParameters))'")
"""Keys that an event of API Gateway has in format version 1.0, but not in version 2.0."""

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


def hint(problem: Mapping[str, Any], options: RunOptions) -> str:
    """Return a hint on what to do about an error, as one line without a line break; "" if there is no hint.

    Args:
        problem: The metadata of an ERROR frame.
        options: The options of the run.
    """
    kind, message = _text(problem.get("error_type")), _text(problem.get("error_message"))
    if kind == "Runtime.UnmarshalError":
        return _of_event(message, options)
    if kind == "Runtime.MarshalError":
        return _of_result(message, options)
    if kind.startswith("Runtime."):
        return of_loading(kind, message, options)
    if kind == "BdbQuit" or message == "EOF when reading a line":
        return "a function's stdin is empty, so it cannot ask, and a debugger gets no commands; print() goes to stderr"
    calls = calls_of(problem)[-MAX_STACK:]
    code = "\n".join(line[:MAX_TEXT] for *_, line in reversed(calls) if line)
    if kind in ("KeyError", "NoRegionError"):
        return _of_variable(kind, message, options) or _of_rest_api(message, code, options)
    return (
        _of_event_form(message, code, options)
        or _of_attribute(message, code)
        or _of_wsgi(message, code, options)
        or _of_threads(message, problem, options)
    )


def _of_event(message: str, options: RunOptions) -> str:
    if not options.raw and not options.is_http and _NOT_JSON.search(message):
        return "with --raw the handler gets bytes, which need not be JSON"
    if "this function takes an event" not in message or not options.is_http:
        return ""
    if options.effective_platform != NONE:
        return ""  # on such a platform, only a function that reads its event as a stream has this error
    return "with --platform lambda or fc a handler gets the request as the event of that platform's HTTP trigger"


def _of_result(message: str, options: RunOptions) -> str:
    if "codec can't decode byte" not in message or options.raw or options.is_http:
        return ""
    return 'with --bytes base64 bytes become {"base64": …}, and with --raw they go out as they are'


def _of_variable(kind: str, message: str, options: RunOptions) -> str:
    found = _VARIABLE.search(message)
    name = "AWS_REGION" if kind == "NoRegionError" else found[1] if found else ""
    if not name:
        return ""
    theirs = FC if name.startswith(("FC_", "ALIBABA_")) else LAMBDA
    if theirs != options.effective_platform:
        return f"--platform {theirs} sets the variables of that platform"
    return f"-E {name}=… gives the function this variable"


def _of_rest_api(message: str, code: str, options: RunOptions) -> str:
    if not options.is_http or not _OF_REST_API.fullmatch(message) or not _EVENT.search(code):
        return ""
    return (
        "--request makes an event with rawPath and requestContext.http.method, as function URLs and HTTP APIs do; give "
        "that of a REST API, with path and httpMethod, with -e or -f"
    )


def _of_event_form(message: str, code: str, options: RunOptions) -> str:
    if not options.raw and _NOT_TEXT.search(message):
        for found in _WHOLE_EVENT.finditer(code):
            if (found[1] or found[2]) in _EVENT_NAMES:
                how = "--platform fc" if options.is_http else "--raw, or --platform fc,"
                return f"the event is parsed already; with {how} the handler gets bytes to parse"
    if options.raw and _NOT_PARSED.search(message) and _EVENT.search(code):
        what = "--platform fc" if options.effective_platform == FC else "--raw"
        return f"the event is bytes with {what}; without it the handler gets parsed JSON"
    return ""


def _of_attribute(message: str, code: str) -> str:
    found = _NO_ATTRIBUTE.search(message)
    owner, name = (found[1], found[2]) if found else ("", "")
    if name == "request" and "context.request" in code:
        return _WANTS_REQUEST
    if owner == "dict" and re.search(rf"\bcloud_?event\.{name}\b", code):
        return "annotate the parameter with pipe_runtime.cloudevent.CloudEvent to get an event object"
    if name in _REQUEST and re.search(rf"\b(?:request|req|flask_request)\.{name}\b", code):
        return _WANTS_REQUEST
    wanted = "event|evt" if owner == "Context" else "context|ctx"
    if (name and re.search(rf"\b(?:{wanted})\.{name}\b", code)) or (
        "'Context' object is not subscriptable" in message and _EVENT.search(code)
    ):
        return "the handler is called with (event, context); (context, event) is the order of nuclio: swap them"
    return ""


def _of_wsgi(message: str, code: str, options: RunOptions) -> str:
    if "'Context' object is not callable" in message:
        return "a WSGI application whose second parameter is not called start_response needs --type wsgi"
    missing = re.search(r"(\w+)\(\) missing \d required positional arguments?: '(\w+)'", message)
    if missing and missing[1] == re.split(r"[.:]", options.handler)[-1] and not code:
        return "a handler takes (event, context), (event) or nothing; for an application there is --type wsgi or asgi"
    return ""


def _of_threads(message: str, problem: Mapping[str, Any], options: RunOptions) -> str:
    if options.concurrency > 1 and re.search(r"only works in main thread|no current event loop in thread", message):
        return "with --concurrency a plain function runs in a thread; for the main thread use --workers instead"
    limit = problem.get("limit")
    if message != "can't start new thread" or not isinstance(limit, dict) or limit.get("name") != "memory":
        return ""
    return (
        "the stack of each thread counts for -m, 8 MB as a rule; raise -m, or have smaller stacks by "
        "threading.stack_size(…) when the module loads"
    )


def _text(value: object) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""
