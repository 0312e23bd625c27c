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

_NOT_TEXT = re.compile(r"\bbytes\b|has no attribute 'decode'")
"""Matches the error messages of json, orjson, ujson, base64 and str for a value that is neither text nor bytes."""

_NOT_JSON = re.compile(r"line \d+ column \d+ \(char \d+\)")
_NO_ATTRIBUTE = re.compile(r"'(\w+)' object has no attribute '(\w+)'")
_OF_REST_API = re.compile(r"'(?:httpMethod|path|resource|pathParameters|multiValue(?:Headers|QueryStringParameters))'")
"""Keys that an event of API Gateway has in format version 1.0, but not in version 2.0."""

_VARIABLE = re.compile(r"'((?:AWS|LAMBDA|FC|ALIBABA_CLOUD)_[A-Z_]+|_HANDLER)'")
_EVENT = re.compile(r"\b(?:event|evt)\b")
_WHOLE_EVENT = re.compile(r"\b(?:loads|str|b64decode)\(\s*(\w+)\s*[,)]|\b(\w+)\s*\.\s*decode\(")
_EVENT_NAMES = frozenset(("event", "evt", "e", "payload", "data", "body", "request", "req"))


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
        found = of_loading(kind, message, options)
        return found if found.isprintable() else ""
    if kind == "BdbQuit" or message == "EOF when reading a line":
        return "a function's stdin is empty, so it cannot ask, and a debugger gets no commands; print() goes to stderr"
    code = "\n".join(line for *_, line in reversed(calls_of(problem)) if line)
    if kind in ("KeyError", "NoRegionError"):
        return _of_variable(kind, message, options) or _of_rest_api(message, code, options)
    return _of_event_form(message, code, options) or _of_attribute(message, code)


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
    if options.raw and "byte" in message and _EVENT.search(code):
        what = "--platform fc" if options.effective_platform == FC else "--raw"
        return f"the event is bytes with {what}; without it the handler gets parsed JSON"
    return ""


def _of_attribute(message: str, code: str) -> str:
    found = _NO_ATTRIBUTE.search(message)
    owner, name = (found[1], found[2]) if found else ("", "")
    if owner == "dict" and re.search(rf"\bcloud_?event\.{name}\b", code):
        return "annotate the parameter with pipe_runtime.cloudevent.CloudEvent to get an event object"
    if owner and re.search(rf"\b(?:context\.request|(?:request|req|flask_request)\.{name})\b", code):
        return (
            "the handler wants a web request, as from Google Cloud Functions, Azure or Knative, and gets an event; "
            "make it a WSGI application, such as functions_framework.create_app(…), and use --request"
        )
    if "'Context' object is not callable" in message:
        return "a WSGI application whose second parameter is not called start_response needs --type wsgi"
    wanted = "event|evt" if owner == "Context" else "context|ctx"
    if (name and re.search(rf"\b(?:{wanted})\.{name}\b", code)) or (
        "'Context' object is not subscriptable" in message and _EVENT.search(code)
    ):
        return "the handler is called with (event, context); (context, event) is the order of nuclio: swap them"
    return ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
