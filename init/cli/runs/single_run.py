"""Run a single request: send its body as fast as the worker reads it, and print its result as fast as stdout allows.

This file does not know options, or how a worker runs.
"""

from __future__ import annotations

import select

from pipe_runtime.wire.messages import JSON

from ...engine.supervisor import Supervisor
from ...model import Metadata, Outcome, Piece, Request
from ..results.output import Output
from ..results.terminal import HarmlessPieces, is_terminal
from .event_input import Body


class SingleRun:
    """Run requests one after the other.

    Args:
        supervisor: The object that runs the requests.
        output: The object that writes the results.
        raw: Whether to print the result's bytes without a line break after them.
        include: Whether to print the status and headers of an HTTP answer before its body.
    """

    def __init__(self, supervisor: Supervisor, output: Output, raw: bool, include: bool) -> None:
        self._supervisor = supervisor
        self._output = output
        self._raw = raw
        self._include = include
        self._is_terminal = is_terminal(output.descriptor)
        self._harmless = HarmlessPieces()

    def run(self, request: Request, body: Body | None = None) -> Outcome:
        """Run one request and return its outcome. If the result is streamed, print it piece by piece as it comes.

        Args:
            request: The request.
            body: The request's body if the init streams it; None if the request contains the body.
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
        """Print the part of a result that `run` has not printed: the whole result, or the end of a streamed one."""
        if outcome.http is not None:
            pieces = [b"" if outcome.streamed else self._head(outcome.http), outcome.payload]
        elif outcome.streamed:
            pieces = [b"\n"] if outcome.content_type == JSON and not self._raw else []
        else:
            pieces = [outcome.payload, b"" if self._raw else b"\n"]
        if self._is_terminal:
            pieces = [self._harmless.next(b"".join(pieces), is_last=True)]
        elif sum(map(len, pieces)) <= 4096:
            pieces = [b"".join(pieces)]
        self._output.add(pieces)
        self._output.finish()

    def _show(self, piece: Piece) -> None:
        """Print a piece of a streamed result. When it is written, give the worker credit for more."""
        data = piece.data
        if not data and piece.http is not None:
            data = self._head(piece.http)
        if data:
            shown = self._harmless.next(data, is_last=False) if self._is_terminal else data
            self._output.add((shown,), lambda: self._supervisor.taken(piece))

    def _head(self, http: Metadata) -> bytes:
        """Return the status and headers that --include prints before a body; b"" without --include."""
        if not self._include:
            return b""
        from ..results.http_response import response_head  # imported late, because few functions answer HTTP requests

        head = response_head(http)
        return head.replace(b"\r\n", b"\n") if self._is_terminal else head
