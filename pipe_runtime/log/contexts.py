"""Give each thread and task a tag of its own while a worker runs several requests at once.

The runtime loads this module if a worker's `concurrency` is above 1. This module must not know frames.
"""

from __future__ import annotations

from ..namespace import late
from .writer import NO_REQUEST, Tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import ContextVar, Token


class Contexts:
    """Keep the tag of each context (see contextvars)."""

    def __init__(self) -> None:
        self._tags: ContextVar[Tag] = late._contextvars.ContextVar("pipe_runtime.request", default=NO_REQUEST)
        self._running = {0}  # the ids of the running requests, and 0: a line may have one of these ids

    def enter(self, tag: Tag) -> Token[Tag]:
        """From now on, give the lines that this context and its copies write this tag."""
        self._running.add(tag.id)
        return self._tags.set(tag)

    def leave(self, token: Token[Tag]) -> None:
        """Undo `enter`, in the same context."""
        self._tags.reset(token)

    def tag(self) -> Tag:
        """Return the tag for a line that the caller's context writes now."""
        return self.settled(self._tags.get())

    def settled(self, tag: Tag) -> Tag:
        """Return the tag. If its request has ended and a task of it still writes lines, return the tag with id 0."""
        return tag if tag.id in self._running else Tag((0, tag.request_id, tag.tenant_id))

    def forget(self, id: int) -> None:
        """From now on, give no line this id, because the request has ended."""
        self._running.discard(id)
