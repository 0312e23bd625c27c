"""Add what a platform gives a function with each request: Lambda's trace variable, Function Compute's HTTP headers.

The runtime loads this module for the first request that needs it. This module must know neither frames nor adapters.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .context import Context

TRACE = "_X_AMZN_TRACE_ID"
"""The environment variable in which Lambda gives a function the tracing header of AWS X-Ray."""

_HEX = frozenset("0123456789abcdef")
_LENGTHS = (2, 32, 16, 2)
"""The number of hexadecimal digits in each of the four parts of a traceparent."""


def set_trace(trace: str | None) -> bool:
    """Set the variable TRACE for a request. If the request has no trace, remove the previous request's variable.

    Args:
        trace: A traceparent, or None. A text that is not a traceparent counts as None.

    Returns:
        Whether the variable is now set.
    """
    value = "" if trace is None else xray(trace)
    if value:
        os.environ[TRACE] = value
    else:
        os.environ.pop(TRACE, None)
    return bool(value)


def xray(trace: str) -> str:
    """Return a traceparent in the form of AWS X-Ray; "" if the text is not a traceparent."""
    parts = trace.split("-")
    if tuple(len(part) for part in parts) != _LENGTHS or not _HEX.issuperset("".join(parts)):
        return ""
    _, root, parent, flags = parts
    return f"Root=1-{root[:8]}-{root[8:]};Parent={parent};Sampled={int(flags, 16) & 1}"


def fc_headers(context: Context, hooks: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers that Function Compute adds to an HTTP request, without those that have no value.

    Args:
        context: The request's context.
        hooks: {field of HELLO: name of the hook}, such as {"pre_stop": "index.stop"}.
    """
    function, service, credentials = context.function, context.service, context.credentials
    headers = {
        "x-fc-request-id": context.request_id,
        "x-fc-access-key-id": credentials.access_key_id,
        "x-fc-access-key-secret": credentials.access_key_secret,
        "x-fc-security-token": credentials.security_token,
        "x-fc-function-name": function.name,
        "x-fc-function-handler": function.handler,
        "x-fc-function-memory": str(function.memory),
        "x-fc-function-timeout": str(function.timeout),
        "x-fc-function-initializer": hooks.get("initializer", ""),
        "x-fc-instance-lifecycle-pre-stop-handler": hooks.get("pre_stop", ""),
        "x-fc-instance-lifecycle-pre-freeze-handler": hooks.get("pre_freeze", ""),
        "x-fc-region": context.region,
        "x-fc-account-id": context.account_id,
        "x-fc-service-name": service.name,
        "x-fc-service-logproject": service.log_project,
        "x-fc-service-logstore": service.log_store,
        "x-fc-qualifier": service.qualifier,
        "x-fc-version-id": service.version_id,
        "x-fc-retry-count": str(context.retry_count),
        "x-fc-control-path": "/http-invoke",
    }
    # In a header's value, each character stands for one byte. A value that is not ASCII is sent as UTF-8.
    return [(name, value.encode().decode("latin-1")) for name, value in headers.items() if value]
