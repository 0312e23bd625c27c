"""Define what links and sources of workers report: the interface that an observer implements.

It must not know who observes, or what follows from a report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipe_runtime.wire.frames import Frame

from ..model import WorkerEnd


class Observer:
    """Hears what one process says, at once and in order. A frame has passed the protocol's checks by then.

    A subclass overrides the methods that it needs.
    """

    def hello(self, metadata: Mapping[str, Any]) -> None:
        """Handle HELLO."""

    def ready(self, metadata: Mapping[str, Any]) -> None:
        """Handle READY."""

    def outcome(self, frame: Frame) -> None:
        """Handle the outcome of request `frame.id`: RESULT, ERROR or END."""

    def stream_begun(self, frame: Frame) -> None:
        """Handle a RESULT whose body follows in pieces."""

    def piece(self, frame: Frame) -> None:
        """Handle CHUNK."""

    def lines(self, frame: Frame) -> None:
        """Handle LOG."""

    def raw_lines(self, data: bytes) -> None:
        """Handle bytes that the process, or a process that it has started, wrote to the log pipe."""

    def stacks(self, entries: object) -> None:
        """Handle DUMP. Its entries may be anything, since the runtime may lie."""

    def dumped(self) -> None:
        """Handle a part of the stacks from the dump pipe; the child's `end.dump` has all that came."""

    def last_word(self, metadata: Mapping[str, Any]) -> None:
        """Handle ERROR with id 0, in which the process says why it ends."""

    def closed(self) -> None:
        """Handle that the process closed its end of the requests or of the answers. May be called more than once."""

    def violated(self, why: str) -> None:
        """Handle that the process broke the protocol. The link reports no further frame."""

    def lost(self, template: WorkerEnd | None) -> None:
        """Handle that the worker's death cannot be seen, because it was never forked or is not a child of the init.

        Args:
            template: What is known of the template that has not forked it; None if the worker is not a child.
        """
