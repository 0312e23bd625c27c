"""The errors that have a meaning on the wire.

This file knows neither frames nor handlers; every other module of the runtime may import it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    StackEntry = list[object]
    """One call: [file: str, line: int, function: str, source line: str]."""


class ProtocolError(Exception):
    """The peer sent what the protocol does not allow. The connection is of no further use."""


class TruncatedStream(ProtocolError):
    """The peer's stream ended inside a frame: a rule was broken, or the peer died while it wrote."""


class LocalProtocolError(ProtocolError):
    """This side tried to send what the protocol does not allow. Nothing was sent, nothing has changed."""


class Fault(Exception):
    """An answer with a typed name, such as ``Runtime.HandlerNotFound``.

    error_type: the name, from docs/protocol.md's table of errors.
    message: one line for a person.
    stack: calls to show, most recent last, each [file, line, function, source line]; empty where none helps.
    """

    def __init__(self, error_type: str, message: str, stack: Sequence[StackEntry] = ()) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.stack = list(stack)
