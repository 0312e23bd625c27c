"""Define the parts of a context that are objects: its identity, its client context, and Function Compute's metadata.

A context loads this module when the function first reads such a field. This module must not know the context.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def map_of(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a dict, otherwise an empty dict."""
    return value if isinstance(value, dict) else {}


def public(part: object) -> dict[str, Any]:
    """Return an object's fields, without those whose names are in camelCase."""
    return {name: value for name, value in vars(part).items() if name.islower()}


def shown(part: object, fields: Mapping[str, Any]) -> str:
    """Return a repr of an object that shows these fields."""
    return f"{type(part).__name__}({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


class _Part:
    """A part of the context, such as `identity`: an object with plain attributes."""

    def __repr__(self) -> str:
        return shown(self, public(self))


class Credentials(_Part):
    """Credentials for the platform's services. repr() hides the values, because functions log their context."""

    def __init__(self, fields: object) -> None:
        given = map_of(fields)
        self.access_key_id = self.accessKeyId = str(given.get("access_key_id") or "")
        self.access_key_secret = self.accessKeySecret = str(given.get("access_key_secret") or "")
        self.security_token = self.securityToken = str(given.get("security_token") or "")

    def __repr__(self) -> str:
        return shown(self, {name: "hidden" if value else value for name, value in public(self).items()})


class FunctionMeta(_Part):
    """Function Compute's `context.function`. `memory` is in MB, and `timeout` in whole seconds, rounded up."""

    def __init__(self, name: str, handler: str, memory_mb: int, timeout_ms: int) -> None:
        self.name = name
        self.handler = handler
        self.memory = memory_mb
        self.timeout = -(-timeout_ms // 1000)


class Service(_Part):
    """Function Compute's `context.service`."""

    def __init__(self, fields: object) -> None:
        given = map_of(fields)
        self.name = str(given.get("name") or "")
        self.log_project = str(given.get("log_project") or "")
        self.log_store = str(given.get("log_store") or "")
        self.qualifier = str(given.get("qualifier") or "LATEST")
        self.version_id = str(given.get("version_id") or "")


class Tracing(_Part):
    """Function Compute's `context.tracing`."""

    def __init__(self, fields: object) -> None:
        given = map_of(fields)
        self.span_context: str | None = given.get("span_context")
        self.jaeger_endpoint: str | None = given.get("jaeger_endpoint")
        self.span_baggages: dict[str, Any] = dict(map_of(given.get("span_baggages")))


class ClientContext(_Part):
    """Lambda's `context.client_context`. A field is None if the caller did not send it."""

    def __init__(self, fields: object) -> None:
        given = map_of(fields)
        client = given.get("client")
        self.custom: dict[str, Any] | None = given.get("custom")
        self.env: dict[str, Any] | None = given.get("env")
        self.client = None if client is None else Client(client)


class Client(_Part):
    """Lambda's `context.client_context.client`."""

    def __init__(self, fields: object) -> None:
        given = map_of(fields)
        self.installation_id: str | None = given.get("installation_id")
        self.app_title: str | None = given.get("app_title")
        self.app_version_name: str | None = given.get("app_version_name")
        self.app_version_code: str | None = given.get("app_version_code")
        self.app_package_name: str | None = given.get("app_package_name")


class Identity(_Part):
    """Lambda's `context.identity`. It accepts names in snake_case, and in camelCase as Lambda sends them."""

    def __init__(self, fields: object) -> None:
        given = map_of(fields)
        self.cognito_identity_id: str | None = (
            given.get("cognito_identity_id") or given.get("cognitoIdentityId")
        )  # fmt: skip
        self.cognito_identity_pool_id: str | None = (
            given.get("cognito_identity_pool_id") or given.get("cognitoIdentityPoolId")
        )  # fmt: skip
