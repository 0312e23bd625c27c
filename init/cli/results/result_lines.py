"""Make the result line of an event from its outcome, as pieces of bytes.

If possible, the pieces are views of the result's own bytes, so that a large line is not copied in memory. This file
knows neither the supervisor nor descriptors. Everything in an outcome may come from a hostile process.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator

from pipe_runtime.wire.messages import JSON, JSON_LINES

from ...kernel import exit_codes
from ...kernel.plain_classes import dataclass
from ...log.error_formats import error_object
from ...log.json_lines import one_line, to_line
from ...model import Outcome, problem
from .http_response import response_pieces
from .json_text import PIECE, Data, is_utf8, slices, text_pieces, value_pieces
from .terminal import harmless

MAX_LINE = 64 * 1024 * 1024
"""The most bytes of a result that may become one line."""

STEP = 256 * 1024
"""Bytes to check before each pause, if a result consists of many items."""

_line_break = re.compile(rb"[\n\r\x0b\x0c\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9]").search
"""Find a line end of any kind that Python's text files, str.splitlines() or Node's readline recognize."""


@dataclass(slots=True)
class Result:
    """The outcome of an event, and the body of its result.

    Attributes:
        outcome: The outcome.
        data: The whole body, even if it came in pieces; empty if the body is too large for a line.
        size: The number of bytes of the body that have come.
    """

    outcome: Outcome
    data: Data
    size: int

    def fail(self, error_type: str, message: str, exit_code: int = exit_codes.FUNCTION_FAILED) -> None:
        """Replace the outcome with an error, and drop the body."""
        self.outcome.problem, self.outcome.exit_code, self.data = problem(error_type, message), exit_code, b""


class ResultLines:
    """Make result lines in the format that the command's options choose.

    Args:
        raw: Whether results are bytes, not JSON.
        unordered: Whether lines are in the order in which results come. Each line then has the number of its event.
        error_style: One of ERROR_STYLES (cli/options/run_options.py). "text" and "auto" mean the same as "lambda" here.
        terminal: Whether the lines go to a terminal. If so, control characters become escapes.
        max_line: The most bytes of a result that may become one line.
    """

    def __init__(
        self, raw: bool, unordered: bool, error_style: str, terminal: bool = False, max_line: int = MAX_LINE
    ) -> None:
        self.max_line = max_line
        self._raw = raw
        self.unordered = unordered
        self._terminal = terminal
        self._shows_only_json = not (raw or unordered or terminal)
        if not raw:
            from .json_scan import scan  # compiling its expressions takes 15 ms, which single runs do not need

            self._scan = scan
        self._style = "fc" if error_style == "fc" else "lambda"

    def check(self, result: Result) -> Iterator[None]:
        """Replace a result that cannot become a line with an error. Yield from time to time, as json_scan.scan does."""
        if result.outcome.problem is not None:
            result.data = b""
        elif result.size > self.max_line:
            message = f"The result has {result.size} bytes; the limit for one line is {self.max_line}"
            result.fail("Function.ResponseSizeTooLarge", message)
        elif why := (yield from self._why_no_line(result.outcome, result.data)):
            message = f"Unable to marshal response: {why}, which --events cannot show"
            result.fail("Runtime.MarshalError", message)

    def pieces(self, result: Result, index: int) -> Iterable[bytes | memoryview]:
        """Return the line of a result, with its line break.

        Args:
            result: The result, after `check`.
            index: The event's number, counted from 0.
        """
        outcome, data = result.outcome, result.data
        is_json = outcome.content_type == JSON and outcome.problem is None and outcome.http is None
        if is_json and self._shows_only_json and len(data) <= PIECE:  # a shortcut for the most frequent case
            return (one_line(bytes(data)) + b"\n",)
        pieces = self._pieces(result, index)
        if self._terminal:
            return (harmless(b"".join(pieces)),)
        return pieces if len(data) > PIECE else (b"".join(pieces),)

    def _why_no_line(self, outcome: Outcome, data: Data) -> Generator[None, None, str]:
        """Return the reason why a result cannot become one line of the output; "" if it can."""
        if outcome.http is not None or (self._raw and self.unordered):
            return ""  # the bytes become a JSON string
        if self._raw:
            return "the result has a line break in it" if _line_break(data) else ""
        if outcome.content_type == JSON_LINES:
            is_right = is_utf8(data) and (yield from self._are_values(data))
            return "" if is_right else "an item of the result is not one JSON value"
        if outcome.content_type != JSON:
            return "the result is not JSON"
        if b"\n" in data or b"\r" in data:
            return "the result has a line break in it"
        is_right = is_utf8(data) and (yield from self._scan(data, 0, len(data)))
        return "" if is_right else "the result is not one JSON value"

    def _are_values(self, data: Data) -> Generator[None, None, bool]:
        """Return whether each line of the data is one JSON value."""
        start, size, pause = 0, len(data), STEP
        while start < size:
            end = data.find(b"\n", start)
            end = size if end < 0 else end
            if not (yield from self._scan(data, start, end)):
                return False
            start = end + 1
            if start > pause:
                pause = start + STEP
                yield
        return True

    def _pieces(self, result: Result, index: int) -> Iterator[bytes | memoryview]:
        if not self.unordered:
            yield from self._value(result)
            yield b"\n"
            return
        name = b"result" if result.outcome.problem is None else b"error"
        yield b'{"index": %d, "%s": ' % (index, name)
        yield from self._value(result)
        yield b"}\n"

    def _value(self, result: Result) -> Iterator[bytes | memoryview]:
        outcome, data = result.outcome, result.data
        if outcome.problem is not None:
            yield to_line(error_object(self._style, outcome.problem, outcome.request_id))
        elif outcome.http is not None:
            yield from response_pieces(outcome.http, data)
        elif outcome.content_type == JSON_LINES and not self._raw:
            yield b"["
            for piece in value_pieces(data, len(data) - data.endswith(b"\n")):
                yield bytes(piece).replace(b"\n", b", ")
            yield b"]"
        elif self._raw and self.unordered:  # escape the bytes, so that they cannot look like other parts of the line
            pieces, is_base64 = text_pieces(data)
            yield from pieces
            if is_base64:
                yield b', "isBase64Encoded": true'
        elif self._raw:
            yield from slices(data, len(data))
        else:
            yield from value_pieces(data, len(data))
