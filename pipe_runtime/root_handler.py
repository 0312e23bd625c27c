"""What the runtime adds to the function's `logging`: a handler on the root logger, as AWS Lambda has one.

Loaded when the function imports `logging`. It knows the journal and Python's logging, not frames.
"""

from __future__ import annotations

import sys
from time import gmtime

from . import faults, namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any, TextIO

    from .logs import Journal

_RECORD = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
_MOMENT = "%Y-%m-%dT%H:%M:%S"
"""A log record as AWS Lambda writes it."""

LEVEL_NAME = 32
"""Characters of a level's name in a LOG frame: a function may name levels as it likes, and the head must stay small."""


def attach(module: Any, journal: Journal) -> None:
    """Put a handler on the root logger of `module`, the function's `logging`, and set the root logger's level.

    The handler has the name of Lambda's class, and in the text style a plain Formatter: code that was written for
    Lambda looks for both. As in a script, `logging.basicConfig()` configures: it takes our handler off first, unless
    the function has given it another formatter. `dictConfig` and `fileConfig` do so by themselves for a root logger.
    """
    root, records = module.root, journal.records
    known = frozenset(module.makeLogRecord({}).__dict__)

    class LambdaLoggerHandler(module.Handler):  # type: ignore[misc]
        def emit(self, record: logging.LogRecord) -> None:
            try:
                line = self.format(record).encode("utf-8", "backslashreplace")
                if line.endswith(b"\n"):  # formats for Lambda's handler bring their line break along
                    line = line[:-1]
                if records is not None and self.formatter is not formatter:
                    line = records.printed_line(line, "log", journal.tag().request_id, level_of(record))
                journal.record(_short(record.levelname), line)
            except RecursionError:
                raise  # as in logging's own handlers
            except Exception:  # logging's own contract: a record that cannot be formatted is reported, not raised
                self.handleError(record)

    class JsonFormatter(module.Formatter):  # type: ignore[misc]
        def format(self, record: logging.LogRecord) -> str:
            assert records is not None, "used in the JSON style only"
            return str(records.record_line(record, journal.tag(), level_of(record), known))

    def level_of(record: logging.LogRecord) -> str:
        """The name of the standard level at or below a custom one: so Lambda's JSON shows it."""
        number = record.levelno
        return str(module.getLevelName(min(50, max(0, number)) // 10 * 10 if isinstance(number, (int, float)) else 0))

    def name_request(record: Any) -> bool:
        tag = journal.tag()
        record.aws_request_id, record.tenant_id = tag.request_id, tag.tenant_id or None
        return True

    def basic_config(*given: Any, **settings: Any) -> None:
        is_ours = handler in root.handlers and handler.formatter is formatter
        if is_ours:
            root.removeHandler(handler)
        try:
            configure(*given, **settings)
        except BaseException:  # such as a wrong setting: what was not configured stays as it was
            if is_ours and not root.handlers:
                root.addHandler(handler)
            raise

    handler = LambdaLoggerHandler()
    if records is None:
        formatter = module.Formatter(_RECORD, _MOMENT, defaults={"aws_request_id": ""})
        formatter.converter = gmtime
    else:
        formatter = JsonFormatter()
    handler.setFormatter(formatter)
    handler.addFilter(name_request)
    root.addHandler(handler)
    root.setLevel(journal.level)
    configure = module.basicConfig
    basic_config.__name__ = basic_config.__qualname__ = "basicConfig"
    basic_config.__doc__, basic_config.__wrapped__ = configure.__doc__, configure  # type: ignore[attr-defined]
    module.basicConfig = basic_config
    module.traceback = _Traceback(module.traceback, module)


class _Traceback:
    """The module `traceback` as `logging` sees it: stacks and tracebacks without the calls that are the runtime's."""

    def __init__(self, module: Any, logging: Any) -> None:
        self._module = module
        self._logging = logging

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def print_stack(self, f: Any = None, limit: int | None = None, file: TextIO | None = None) -> None:
        """Print the calls from the function's first one to `f`, which has logged something."""
        frame = sys._getframe(1) if f is None else f
        if faults.is_own(frame):  # our handler could not format a record: show who has logged it
            while frame is not None and (faults.is_own(frame) or frame.f_globals is self._logging.__dict__):
                frame = frame.f_back
        calls = list(self._module.walk_stack(frame))[::-1] if frame is not None else []
        shown = namespace.own("stacks").from_the_function(calls)
        self._module.print_list(self._module.StackSummary.extract(iter(shown), limit=limit), file=file)

    def print_exception(self, exc: Any, value: Any = None, tb: Any = None, *rest: Any, **named: Any) -> None:
        """Print an exception from the first call on that is not the runtime's."""
        if isinstance(exc, BaseException):
            exc, value, tb = type(exc), exc, exc.__traceback__
        self._module.print_exception(exc, value, faults.without_own(tb), *rest, **named)


def _short(name: object) -> str:
    """A level's name for a LOG frame."""
    return ascii(name)[1:-1][:LEVEL_NAME] if not isinstance(name, str) or not name.isascii() else name[:LEVEL_NAME]
