"""Define the errors of the protocol, and the errors that the runtime reports to the caller by name.

Every other module of the runtime may import this one. It must not know frames or handlers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    StackEntry = list[object]
    """One call: [file: str, line: int, function: str, source line: str]."""


class ProtocolError(Exception):
    """The peer sent something that the protocol does not allow. The connection can no longer be used."""


class TruncatedStream(ProtocolError):
    """The peer's stream ended inside a frame. The peer broke the protocol, or died while it wrote the frame."""


class LocalProtocolError(ProtocolError):
    """This side tried to send something that the protocol does not allow. Nothing was sent, and nothing changed."""


class Fault(Exception):
    """An error with a name for the caller, such as ``Runtime.HandlerNotFound``.

    Attributes:
        error_type: The name, from docs/protocol.md's table of errors.
        message: One line of text for a person.
        entry: The only place in the code to show, instead of a stack of calls: [file, line, function, source line].
    """

    def __init__(self, error_type: str, message: str, entry: StackEntry | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.entry = entry
