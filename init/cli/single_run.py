"""Run a single request: its body goes out and its result comes in as each side takes it.

It knows no options, and not how a worker is run.
"""

from __future__ import annotations

import select
from collections.abc import Mapping
from typing import Any

from pipe_runtime.messages import JSON

from ..request import Outcome, Piece, Request
from ..supervisor import Supervisor
from .body import Body
from .http import response_head
from .output import Output
from .terminal import harmless, is_terminal


class SingleRun:
    """Run requests one after the other, with nothing beside them.

    Args:
        supervisor: Runs them.
        output: Takes the result.
        raw: The result's bytes are printed and nothing else.
        include: Status and headers of an HTTP answer are printed before its body.
    """

    def __init__(self, supervisor: Supervisor, output: Output, raw: bool, include: bool) -> None:
        self._supervisor = supervisor
        self._output = output
        self._raw = raw
        self._include = include
        self._is_terminal = is_terminal(output.descriptor)

    def run(self, request: Request, body: Body | None = None) -> Outcome:
        """Run one request, and print the pieces of its result if it is a streamed one.

        Args:
            request: The request.
            body: Its body, if that is streamed.
        """
        supervisor, output = self._supervisor, self._output
        id, rest = supervisor.submit(request), body
        while not supervisor.outcomes or output.pending:
            watch: dict[int, int] = {}
            if rest is not None and supervisor.takes_body(id):
                if rest.ended:
                    supervisor.feed(id, b"")
                    rest = None
                elif rest.waits_for >= 0:
                    watch[rest.waits_for] = select.POLLIN
                elif room := supervisor.room(id):
                    supervisor.feed(id, rest.take(room))
                    continue
            if output.pending:
                watch[output.descriptor] = select.POLLOUT
            ready = supervisor.step(watch)
            if rest is not None and rest.waits_for in ready:
                rest.read_ahead()
            output.write_some()
            while supervisor.pieces:
                self._show(supervisor.pieces.popleft())
            if supervisor.interrupted_by and supervisor.outcomes:
                break
        output.finish()
        return supervisor.outcomes.popleft()

    def print_rest(self, outcome: Outcome) -> None:
        """Print what a result has at its end, which is all of it if it was not streamed."""
        if outcome.http is not None:
            pieces = [b"" if outcome.streamed else self._head(outcome.http), outcome.payload]
        elif outcome.streamed:
            pieces = [b"\n"] if outcome.content_type == JSON and not self._raw else []
        else:
            pieces = [outcome.payload, b"" if self._raw else b"\n"]
        if self._is_terminal:
            pieces = [harmless(b"".join(pieces))]
        elif sum(map(len, pieces)) <= 4096:
            pieces = [b"".join(pieces)]
        self._output.add(pieces)
        self._output.finish()

    def _show(self, piece: Piece) -> None:
        """Print a piece of the result. When it is written, it is the worker's turn again."""
        data = piece.data
        if not data and piece.http is not None:
            data = self._head(piece.http)
        if data:
            shown = harmless(data) if self._is_terminal else data
            self._output.add((shown,), lambda: self._supervisor.taken(piece))

    def _head(self, http: Mapping[str, Any]) -> bytes:
        """Return what --include puts before a body."""
        head = response_head(http) if self._include else b""
        return head.replace(b"\r\n", b"\n") if self._is_terminal else head
