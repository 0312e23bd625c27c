"""Define the context, a handler's second argument. The same class serves functions for Lambda and Function Compute.

Each request gets a new context. To save time, a field is computed when the function first reads it. A context still
behaves like the platforms' plain objects: vars() has every field, repr() shows them, and it can be copied and pickled.
This module knows neither frames nor the loop. It must work even if INVOKE and HELLO leave out every optional field.
"""

from __future__ import annotations

import os
import sys
import time
from time import monotonic  # imported now, because the function may replace the module's attribute

from .. import namespace
from ..namespace import late

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from functools import cached_property as lazy
    from logging import Logger
    from typing import Any

    from .context_fields import ClientContext, Credentials, FunctionMeta, Identity, Service, Tracing
else:

    class lazy:
        """A field that is computed when it is first read, and then kept. The function may assign another value."""

        def __init__(self, compute):
            self.compute = compute
            self.__doc__ = compute.__doc__

        def __set_name__(self, owner, name):
            self.name = name

        def __get__(self, instance, owner=None):
            if instance is None:
                return self
            value = self.compute(instance)
            setattr(instance, self.name, value)
            return value


# The values of a local run, where no platform gives any. An ARN made of them still has seven parts, and an account with
# twelve digits, as programs that parse ARNs expect.
LOCAL_REGION = "local"
LOCAL_ACCOUNT = "000000000000"
LOCAL_NAME = "function"
DEFAULT_MEMORY_MB = 128
DEFAULT_TIMEOUT_MS = 60_000
W3C = ("traceparent", "tracestate", "baggage")
"""The fields of a W3C trace context that w3c() returns."""


class _Kept:
    """The state of a context: its arguments, the computed fields, and attributes that other code has added."""

    __slots__ = (
        "__dict__", "__weakref__", "_request", "_function", "_handler", "_deadline", "_log", "_cancelled"
    )  # fmt: skip


_computed: Callable[[_Kept], dict[str, Any]] = _Kept.__dict__["__dict__"].__get__


class Context(_Kept):
    """The context of one request. The request's time limit starts now.

    Args:
        request: INVOKE's metadata (request_id, trace, client_context, identity, …). Every key is optional.
        function: The `function` map of the init's HELLO (name, version, arn, memory_mb, timeout_ms, …). Every key is
            optional.
        handler: The handler's name as given, such as "index.handler".
        log: A function that writes a text to the function's log.
        cancelled: Whether the caller gave up on the request, or a callable that returns whether it did.
    """

    __slots__ = ()

    def __init__(
        self,
        request: Mapping[str, Any],
        function: Mapping[str, Any],
        handler: str,
        log: Callable[[str], None],
        cancelled: Callable[[], bool] | bool = False,
    ) -> None:
        self._request = request
        self._function = function
        self._handler = handler
        self._deadline = monotonic() + request.get("timeout_ms", DEFAULT_TIMEOUT_MS) / 1000
        self._log = log
        self._cancelled = cancelled

    # The behaviour of a plain object

    @property
    def __dict__(self) -> dict[str, Any]:
        """Return all fields, and compute those that were not read yet. vars() calls this."""
        for name in FIELDS:
            getattr(self, name)
        return _computed(self)

    @__dict__.setter
    def __dict__(self, fields: dict[str, Any]) -> None:
        _Kept.__dict__["__dict__"].__set__(self, fields)

    def __repr__(self) -> str:
        return _parts().shown(self, {name: value for name, value in vars(self).items() if name not in SECOND_NAMES})  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields, the deadline, and whether the request is cancelled at this moment.

        The deadline is a time of the machine's monotonic clock, so it is valid in another process too.
        """
        return {**vars(self), "_deadline": self._deadline, "_cancelled": self.cancelled, "_w3c": self.w3c()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        fields = dict(state)
        # The context may be unpickled in another process, which has no log for this request: use stderr.
        request = {"client_context": {"w3c": fields.pop("_w3c")}}
        self.__init__(request, {}, "", _to_stderr, fields.pop("_cancelled"))  # type: ignore[misc]
        self._deadline = fields.pop("_deadline")
        _computed(self).update(fields)

    def __copy__(self) -> Context:
        return self._made_of(self.__getstate__())

    def __deepcopy__(self, memo: dict[int, Any]) -> Context:
        return self._made_of(late.copy.deepcopy(self.__getstate__(), memo))

    def _made_of(self, state: dict[str, Any]) -> Context:
        other = type(self).__new__(type(self))
        other.__setstate__(state)
        other._log = self._log
        other._cancelled = self._cancelled
        return other

    # Lambda

    @lazy
    def aws_request_id(self) -> str:
        return str(self._request.get("request_id") or "")

    @lazy
    def function_name(self) -> str:
        return str(self._function.get("name") or LOCAL_NAME)

    @lazy
    def function_version(self) -> str:
        return str(self._function.get("version") or "$LATEST")

    @lazy
    def invoked_function_arn(self) -> str:
        arn = self._function.get("arn")
        local = f"arn:aws:lambda:{self.region}:{self.account_id}:function:{self.function_name}"
        return str(arn or local)

    @lazy
    def memory_limit_in_mb(self) -> str:
        """Return the memory limit in MB as text, as Lambda does."""
        return str(self._memory_mb())

    @lazy
    def log_group_name(self) -> str:
        return str(self._function.get("log_group") or f"/aws/lambda/{self.function_name}")

    @lazy
    def log_stream_name(self) -> str:
        return str(self._function.get("log_stream") or f"local/[{self.function_version}]{os.getpid()}")

    @lazy
    def client_context(self) -> ClientContext | None:
        given = self._request.get("client_context")
        return None if given is None else _parts().ClientContext(given)

    @lazy
    def identity(self) -> Identity:
        """Return the identity object, which is never None. Its fields are None if the caller gave no identity."""
        return _parts().Identity(self._request.get("identity"))  # type: ignore[no-any-return]

    @lazy
    def tenant_id(self) -> str | None:
        given = self._request.get("tenant_id")
        return str(given) if given else None

    def get_remaining_time_in_millis(self) -> int:
        """Return how many milliseconds of the request's time limit are left, at least 0. The clock is monotonic."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))

    def w3c(self) -> dict[str, str]:
        """Return the W3C trace context that the caller sent in the client context: traceparent, tracestate, baggage."""
        parts = _parts()
        given = parts.map_of(parts.map_of(self._request.get("client_context")).get("w3c"))
        return {name: given[name] for name in W3C if isinstance(given.get(name), str)}

    def log(self, msg: object) -> None:
        """Write a line to the function's log."""
        self._log(str(msg))

    # Function Compute

    @lazy
    def request_id(self) -> str:
        return self.aws_request_id

    @lazy
    def requestId(self) -> str:
        return self.aws_request_id

    @lazy
    def credentials(self) -> Credentials:
        return _parts().Credentials(self._function.get("credentials"))  # type: ignore[no-any-return]

    @lazy
    def function(self) -> FunctionMeta:
        timeout_ms = self._function.get("timeout_ms") or DEFAULT_TIMEOUT_MS
        return _parts().FunctionMeta(self.function_name, self._handler, self._memory_mb(), int(timeout_ms))  # type: ignore[no-any-return]

    @lazy
    def service(self) -> Service:
        return _parts().Service(self._function.get("service"))  # type: ignore[no-any-return]

    @lazy
    def region(self) -> str:
        return str(self._function.get("region") or LOCAL_REGION)

    @lazy
    def account_id(self) -> str:
        return str(self._function.get("account_id") or LOCAL_ACCOUNT)

    @lazy
    def accountId(self) -> str:
        return self.account_id

    @lazy
    def retry_count(self) -> int:
        return int(self._request.get("retry_count") or 0)

    @lazy
    def tracing(self) -> Tracing:
        return _parts().Tracing(self._request.get("tracing"))  # type: ignore[no-any-return]

    @property
    def logger(self) -> Logger:
        """Return the root logger."""
        # Not late.logging: this must be the same module that the function imports. Otherwise the function would
        # configure one root logger and write to another.
        import logging

        return logging.getLogger()

    def getLogger(self) -> Logger:
        """Return the root logger."""
        return self.logger

    def to_json(self) -> str:
        """Return the public fields as a JSON object. It includes the credentials, as on Function Compute."""
        fields = {
            "request_id": self.request_id,
            "credentials": _parts().public(self.credentials),
            "function": _parts().public(self.function),
            "service": _parts().public(self.service),
            "region": self.region,
            "account_id": self.account_id,
            "retry_count": self.retry_count,
            "tracing": _parts().public(self.tracing),
        }
        return str(late.json.dumps(fields))

    # Fields that only pipe-init has

    @property
    def cancelled(self) -> bool:
        """Return whether the caller gave up on this request. The function should then stop its work."""
        return bool(self._cancelled() if callable(self._cancelled) else self._cancelled)

    @lazy
    def traceparent(self) -> str | None:
        """Return the W3C trace context that the caller sent, or None."""
        given = self._request.get("trace")
        return str(given) if given else None

    def _memory_mb(self) -> int:
        return int(self._function.get("memory_mb") or DEFAULT_MEMORY_MB)


FIELDS = tuple(name for name, value in vars(Context).items() if isinstance(value, lazy))
"""The names of a context's fields."""

SECOND_NAMES = frozenset(("request_id", "requestId", "accountId"))
"""Fields that repr() leaves out, because it shows the same values under other names."""


def _parts() -> Any:
    return namespace.own("call.context_fields")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
