"""The context, a handler's second argument: one object for functions of Lambda and of Function Compute.

One is made for every request, so making it only stores what it is made from. Each field is computed when it is first
read, and then kept. Still it behaves like the platforms' plain objects: vars() has every field, repr() shows them, and
it can be copied and pickled. This file knows neither frames nor the loop, and does not rely on any field to be present.
"""

from __future__ import annotations

import os
import sys
import time

from ..namespace import late

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from functools import cached_property as lazy
    from logging import Logger
    from typing import Any
else:

    class lazy:
        """A field that is worked out once. Assigning to it works, as on the platforms' plain objects."""

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


# What a local run says where the platform would say something real: parsers of an ARN get their seven parts,
# and an account of twelve digits.
LOCAL_REGION = "local"
LOCAL_ACCOUNT = "000000000000"
LOCAL_NAME = "function"
DEFAULT_MEMORY_MB = 128
DEFAULT_TIMEOUT_MS = 60_000
W3C = ("traceparent", "tracestate", "baggage")
"""The fields of a W3C trace context that `w3c()` returns."""


class _Kept:
    """The state of a context: what it is made from, the computed fields, and attributes that middleware has added."""

    __slots__ = (
        "__dict__", "__weakref__", "_request", "_function", "_handler", "_deadline", "_log", "_cancelled"
    )  # fmt: skip


_worked_out: Callable[[_Kept], dict[str, Any]] = _Kept.__dict__["__dict__"].__get__


class Context(_Kept):
    """The context of one request.

    request: INVOKE's metadata (request_id, trace, client_context, identity, …), every key optional.
    function: the `function` map of the init's HELLO (name, version, arn, memory_mb, timeout_ms, …), every key
    optional.
    handler: the handler's name as given, such as "index.handler".
    deadline: the time.monotonic() at which the request's time is over, in seconds.
    log: takes one text for the function's log.
    cancelled: whether the caller gave up on the request, or a callable that tells it now.
    """

    __slots__ = ()

    def __init__(
        self,
        request: Mapping[str, Any],
        function: Mapping[str, Any],
        handler: str,
        deadline: float,
        log: Callable[[str], None],
        cancelled: Callable[[], bool] | bool = False,
    ) -> None:
        self._request = request
        self._function = function
        self._handler = handler
        self._deadline = deadline
        self._log = log
        self._cancelled = cancelled

    # As plain as it looks

    @property
    def __dict__(self) -> dict[str, Any]:
        """All fields, computed now if necessary. vars() reads this."""
        for name in FIELDS:
            getattr(self, name)
        return _worked_out(self)

    @__dict__.setter
    def __dict__(self, fields: dict[str, Any]) -> None:
        _Kept.__dict__["__dict__"].__set__(self, fields)

    def __repr__(self) -> str:
        return _shown(self, {name: value for name, value in vars(self).items() if name not in SECOND_NAMES})

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields, the deadline, and whether the request was cancelled by now.

        The deadline is a time of the machine's monotonic clock, so it is valid in another process too.
        """
        return {**vars(self), "_deadline": self._deadline, "_cancelled": self.cancelled, "_w3c": self.w3c()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        fields = dict(state)
        # In another process there is no log of a request's own.
        request = {"client_context": {"w3c": fields.pop("_w3c")}}
        self.__init__(request, {}, "", fields.pop("_deadline"), _to_stderr, fields.pop("_cancelled"))  # type: ignore[misc]
        _worked_out(self).update(fields)

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
        """Megabytes, as text: so does Lambda."""
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
        return None if given is None else ClientContext(given)

    @lazy
    def identity(self) -> Identity:
        """Always an object; its fields are None where no identity was given."""
        return Identity(_map(self._request.get("identity")))

    @lazy
    def tenant_id(self) -> str | None:
        given = self._request.get("tenant_id")
        return str(given) if given else None

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the request's time is over, never below 0, by the monotonic clock."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))

    def w3c(self) -> dict[str, str]:
        """Return the W3C trace context that the caller sent in the client context: traceparent, tracestate, baggage."""
        given = _map(_map(self._request.get("client_context")).get("w3c"))
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
        return Credentials(_map(self._function.get("credentials")))

    @lazy
    def function(self) -> FunctionMeta:
        timeout_ms = self._function.get("timeout_ms") or DEFAULT_TIMEOUT_MS
        return FunctionMeta(self.function_name, self._handler, self._memory_mb(), int(timeout_ms))

    @lazy
    def service(self) -> Service:
        return Service(_map(self._function.get("service")))

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
        return Tracing(_map(self._request.get("tracing")))

    @property
    def logger(self) -> Logger:
        """The root logger."""
        # A plain import, not our late one: it has to be the module that the function's own `import logging`
        # gives, or the function configures one root logger and writes to another.
        import logging

        return logging.getLogger()

    def getLogger(self) -> Logger:
        """The root logger."""
        return self.logger

    def to_json(self) -> str:
        """The public fields as a JSON object. The credentials are among them, as on Function Compute: mind your log."""
        fields = {
            "request_id": self.request_id,
            "credentials": _public(self.credentials),
            "function": _public(self.function),
            "service": _public(self.service),
            "region": self.region,
            "account_id": self.account_id,
            "retry_count": self.retry_count,
            "tracing": _public(self.tracing),
        }
        return str(late.json.dumps(fields))

    # Ours

    @property
    def cancelled(self) -> bool:
        """Whether the caller gave up on this request: time to stop."""
        return bool(self._cancelled() if callable(self._cancelled) else self._cancelled)

    @lazy
    def traceparent(self) -> str | None:
        """The W3C trace context that the caller sent, or None."""
        given = self._request.get("trace")
        return str(given) if given else None

    def _memory_mb(self) -> int:
        return int(self._function.get("memory_mb") or DEFAULT_MEMORY_MB)


def _fields_of(kind: type) -> tuple[str, ...]:
    return tuple(name for name, value in vars(kind).items() if isinstance(value, lazy))


FIELDS = _fields_of(Context)
"""The names of a context's fields."""

SECOND_NAMES = frozenset(("request_id", "requestId", "accountId"))
"""Fields that a repr leaves out because it shows them under another name."""


def _shown(part: object, fields: Mapping[str, Any]) -> str:
    return f"{type(part).__name__}({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Part:
    """A part of the context, such as `identity`: an object with plain attributes."""

    def __repr__(self) -> str:
        return _shown(self, _public(self))


class Credentials(_Part):
    """Credentials for the platform's services. A repr hides the values, because contexts end up in logs."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.access_key_id = self.accessKeyId = str(given.get("access_key_id") or "")
        self.access_key_secret = self.accessKeySecret = str(given.get("access_key_secret") or "")
        self.security_token = self.securityToken = str(given.get("security_token") or "")

    def __repr__(self) -> str:
        return _shown(self, {name: "hidden" if value else value for name, value in _public(self).items()})


class FunctionMeta(_Part):
    """Function Compute's `context.function`. memory: MB; timeout: whole seconds, rounded up."""

    def __init__(self, name: str, handler: str, memory_mb: int, timeout_ms: int) -> None:
        self.name = name
        self.handler = handler
        self.memory = memory_mb
        self.timeout = -(-timeout_ms // 1000)


class Service(_Part):
    """Function Compute's `context.service`."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.name = str(given.get("name") or "")
        self.log_project = str(given.get("log_project") or "")
        self.log_store = str(given.get("log_store") or "")
        self.qualifier = str(given.get("qualifier") or "LATEST")
        self.version_id = str(given.get("version_id") or "")


class Tracing(_Part):
    """Function Compute's `context.tracing`."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.span_context: str | None = given.get("span_context")
        self.jaeger_endpoint: str | None = given.get("jaeger_endpoint")
        self.span_baggages: dict[str, Any] = dict(_map(given.get("span_baggages")))


class ClientContext(_Part):
    """Lambda's `context.client_context`; what the caller left out is None."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        client = given.get("client")
        self.custom: dict[str, Any] | None = given.get("custom")
        self.env: dict[str, Any] | None = given.get("env")
        self.client = None if client is None else Client(_map(client))


class Client(_Part):
    """Lambda's `context.client_context.client`."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.installation_id: str | None = given.get("installation_id")
        self.app_title: str | None = given.get("app_title")
        self.app_version_name: str | None = given.get("app_version_name")
        self.app_version_code: str | None = given.get("app_version_code")
        self.app_package_name: str | None = given.get("app_package_name")


class Identity(_Part):
    """Lambda's `context.identity`. Lambda's own wire form is camelCase; both are understood."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.cognito_identity_id: str | None = (
            given.get("cognito_identity_id") or given.get("cognitoIdentityId")
        )  # fmt: skip
        self.cognito_identity_pool_id: str | None = (
            given.get("cognito_identity_pool_id") or given.get("cognitoIdentityPoolId")
        )  # fmt: skip


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _public(part: object) -> dict[str, Any]:
    """An object's fields under their snake_case names only."""
    return {name: value for name, value in vars(part).items() if name.islower()}
