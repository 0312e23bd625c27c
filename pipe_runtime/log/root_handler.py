"""Put a handler on the function's root logger that writes records as AWS Lambda does.

This module runs while the function imports `logging`. So it imports only built-in modules, and gets everything else as
arguments. Another import could wait for a thread that itself waits for the import of `logging`.
"""

from __future__ import annotations

import sys
from time import gmtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from typing import Any, TextIO

LEVEL_NAME = 32
"""The most characters of a level's name in a LOG frame. The function chooses the names; the head must stay small."""

_RECORD = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
_MOMENT = "%Y-%m-%dT%H:%M:%S"


def put(module: Any, log: Any, tracebacks: Callable[[], Any]) -> None:
    """Put a handler on the root logger, and set the root logger's level.

    The handler's class has the same name as Lambda's. In the text style, its formatter is a plain logging.Formatter.
    Code that was written for Lambda checks for both. `logging.basicConfig()` works as in a script: it first removes
    this handler, unless the function has given the handler another formatter. `dictConfig` and `fileConfig` always
    remove it.

    Args:
        module: The function's module `logging`.
        log: The LogWriter that takes the records.
        tracebacks: A callable that returns the module `tracebacks`.
    """
    root, records = module.root, log.records
    known = frozenset(module.makeLogRecord({}).__dict__)

    class LambdaLoggerHandler(module.Handler):  # type: ignore[misc]
        def emit(self, record: logging.LogRecord) -> None:
            try:
                line = self.format(record).encode("utf-8", "backslashreplace")
                if line.endswith(b"\n"):  # a format that was written for Lambda's handler ends with a line break
                    line = line[:-1]
                if records is not None and self.formatter is not formatter and not log.forked:
                    line = records.printed_line(line, "log", log.tag().request_id, level_of(record))
                log.record(_short(record.levelname), line)
            except RecursionError:
                raise  # the handlers in `logging` do the same
            except Exception:  # as `logging` requires: report a record that cannot be formatted, and do not raise
                self.handleError(record)

    class JsonFormatter(module.Formatter):  # type: ignore[misc]
        def format(self, record: logging.LogRecord) -> str:
            assert records is not None, "used in the JSON style only"
            if log.forked:  # the line goes to fd 2, and the init turns it into a JSON object
                return str(as_text.format(record))
            return str(records.record_line(record, log.tag(), level_of(record), known))

    def level_of(record: logging.LogRecord) -> str:
        """Return the name of a record's level. For a custom level, name the standard level below it, as Lambda does."""
        number = record.levelno
        return str(module.getLevelName(min(50, max(0, number)) // 10 * 10 if isinstance(number, (int, float)) else 0))

    def name_request(record: Any) -> bool:
        tag = log.tag()
        record.aws_request_id, record.tenant_id = tag.request_id, tag.tenant_id or None
        return True

    def basic_config(*given: Any, **settings: Any) -> None:
        is_ours = handler in root.handlers and handler.formatter is formatter
        if is_ours:
            root.removeHandler(handler)
        try:
            configure(*given, **settings)
        except BaseException:  # for example a wrong setting: if nothing was configured, put the handler back
            if is_ours and not root.handlers:
                root.addHandler(handler)
            raise

    handler = LambdaLoggerHandler()
    as_text = module.Formatter(_RECORD, _MOMENT, defaults={"aws_request_id": ""})
    as_text.converter = gmtime
    formatter = as_text if records is None else JsonFormatter()
    handler.setFormatter(formatter)
    handler.addFilter(name_request)
    root.addHandler(handler)
    root.setLevel(log.level)
    configure = module.basicConfig
    basic_config.__name__ = basic_config.__qualname__ = "basicConfig"
    basic_config.__doc__, basic_config.__wrapped__ = configure.__doc__, configure  # type: ignore[attr-defined]
    module.basicConfig = basic_config
    module.traceback = _Traceback(module, tracebacks)


class _Traceback:
    """Replaces the module `traceback` in `logging`. It leaves the runtime's own calls out of stacks and tracebacks."""

    def __init__(self, logging: Any, tracebacks: Callable[[], Any]) -> None:
        self._logging = logging
        self._module = logging.traceback
        self._tracebacks = tracebacks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def print_stack(self, f: Any = None, limit: int | None = None, file: TextIO | None = None) -> None:
        """Print the stack of a caller that logs, as tracebacks.print_stack does."""
        frame = sys._getframe(1) if f is None else f
        self._tracebacks().print_stack(frame, limit, file, self._logging.__dict__)

    def print_exception(self, *given: Any, **named: Any) -> None:
        """Print an exception, as tracebacks.print_exception does."""
        self._tracebacks().print_exception(*given, **named)


def _short(name: object) -> str:
    """Return a level's name for a LOG frame: at most LEVEL_NAME characters of ASCII."""
    return ascii(name)[1:-1][:LEVEL_NAME] if not isinstance(name, str) or not name.isascii() else name[:LEVEL_NAME]
