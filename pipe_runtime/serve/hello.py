"""Read the init's HELLO frame, which tells the runtime which function to serve, and how.

Only this module knows the names of HELLO's fields and their defaults. It must not know what they are used for.
"""

from __future__ import annotations

from ..wire.connection import MAX_CONCURRENCY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

HOOKS = ("initializer", "pre_stop", "pre_freeze")


class Configuration:
    """The fields of HELLO, with their defaults. docs/protocol.md explains each field.

    Attributes:
        template: HELLO's field of this name; None in a worker.
        concurrency: How many requests to serve at once: HELLO's number, but at most MAX_CONCURRENCY.
        hooks: {field of HELLO: name of the hook}, such as {"pre_stop": "index.stop"}; HOOKS has the fields.
    """

    def __init__(self, hello: Mapping[str, Any]) -> None:
        get = hello.get
        self.handler: str = get("handler", "")
        self.code_dir: str = get("code_dir", ".")
        self.layers: Sequence[str] = get("layers", ())
        self.environment: Mapping[str, str] = get("environment", {})
        self.function: Mapping[str, Any] = get("function", {})
        self.platform: str = get("platform", "")
        self.type: str = get("type", "auto")
        self.concurrency: int = min(get("concurrency", 1), MAX_CONCURRENCY)
        self.hooks = {field: hello[field] for field in HOOKS if get(field)}
        self.init_request_id: str = get("init_request_id", "")
        self.log_format: str = get("log_format", "")
        self.log_level: str = get("log_level", "")
        self.bytes: str | None = get("bytes")
        self.dump_fd: int = get("dump_fd", -1)
        self.dump_signal: int = get("dump_signal", 0)
        self.spin_us: int = get("spin_us", 0)
        self.cpu_seconds: int | None = get("cpu_seconds")
        self.open_files: int | None = get("open_files")
        self.rehearse = bool(get("rehearse"))
        self.template: Mapping[str, Any] | None = get("template")
        self.adopts_orphans = bool(get("adopts_orphans"))

    def log_settings(self, environ: Mapping[str, str]) -> tuple[str, str]:
        """Return the log's format and level, unchecked. What HELLO lacks comes from the platforms' variables.

        Function Compute sets ALIYUN_FC_LOG_LEVEL. Lambda sets the two other variables.
        """
        format = self.log_format or environ.get("AWS_LAMBDA_LOG_FORMAT") or "text"
        level = self.log_level or environ.get("AWS_LAMBDA_LOG_LEVEL") or environ.get("ALIYUN_FC_LOG_LEVEL") or "INFO"
        return format, level
