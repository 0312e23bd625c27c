"""Define the errors that have a meaning on the wire.

Every other module of the runtime may import this one. It must not know frames or handlers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    StackEntry = list[object]
    """One call: [file: str, line: int, function: str, source line: str]."""


class ProtocolError(Exception):
    """The peer sent something that the protocol does not allow. The connection can no longer be used."""


class TruncatedStream(ProtocolError):
    """The peer's stream ended inside a frame: the peer broke a rule, or died while it wrote."""


class LocalProtocolError(ProtocolError):
    """This side tried to send something that the protocol does not allow. Nothing was sent, and nothing changed."""


class Fault(Exception):
    """An error with a name for the caller, such as ``Runtime.HandlerNotFound``.

    Attributes:
        error_type: The name, from docs/protocol.md's table of errors.
        message: One line for a person.
        stack: Calls to show, most recent last, each [file, line, function, source line]; empty if none helps.
    """

    def __init__(self, error_type: str, message: str, stack: Sequence[StackEntry] = ()) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.stack = list(stack)
