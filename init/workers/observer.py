"""Define the interface through which links and worker sources report what a process does.

This module must not know the classes that implement it, or what they do with a report.
"""

from __future__ import annotations

from pipe_runtime.wire.frames import Frame

from ..model import Metadata, WorkerEnd


class Observer:
    """Gets a report of each frame and event of one process, in order and without delay.

    Each reported frame has passed the protocol's checks. A subclass overrides the methods that it needs.
    """

    def hello(self, metadata: Metadata) -> None:
        """Handle HELLO."""

    def ready(self, metadata: Metadata) -> None:
        """Handle READY."""

    def outcome(self, frame: Frame) -> None:
        """Handle the outcome of request `frame.id`: RESULT, ERROR or END."""

    def stream_begun(self, frame: Frame) -> None:
        """Handle a RESULT whose body follows in CHUNK frames."""

    def piece(self, frame: Frame) -> None:
        """Handle CHUNK."""

    def lines(self, frame: Frame) -> None:
        """Handle LOG."""

    def raw_lines(self, data: bytes) -> None:
        """Handle bytes that the process, or another process that it has started, has written to the log pipe."""

    def stacks(self, entries: object) -> None:
        """Handle DUMP. Its entries can have any form, because no check has looked into them."""

    def dumped(self) -> None:
        """Handle new data from the dump pipe. The child's `end.dump` has all data that has come so far."""

    def last_word(self, metadata: Metadata) -> None:
        """Handle an ERROR with id 0, in which the process says why it ends."""

    def closed(self) -> None:
        """Handle that the process has closed its input or its answers. The link may call this more than once."""

    def violated(self, why: str) -> None:
        """Handle that the process broke the protocol. The link reports no more frames."""

    def lost(self, template: WorkerEnd | None) -> None:
        """Handle that the init cannot see the worker's death: it was never forked, or is not a child of the init.

        Args:
            template: What is known of the end of the template, if the template has not forked the worker. None if the
                worker is not a child of the init.
        """
