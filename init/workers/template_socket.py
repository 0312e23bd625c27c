"""Ask a template for workers over its control socket, and decode its reports about them.

The init never blocks on the socket. It trusts the template's reports as little as a worker's frames. This module must
not know the frames that the template sends, or what its workers are for.
"""

from __future__ import annotations

import errno
import re
import struct
from _socket import AF_UNIX, MSG_DONTWAIT, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socketpair
from collections.abc import Mapping, Sequence

from pipe_runtime.wire.errors import ProtocolError

from ..kernel.plain_classes import dataclass
from ..kernel.reaper import PID_LIMIT
from . import launch
from .worker_source import TemplateBusy

NO_SOCKETS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
"""Errors of socketpair(2) after which the init uses no template: the system forbids such sockets, or has none."""

REPORT_SIZE = 64
"""The most bytes to read as one report. A report has up to three numbers, which need fewer bytes."""

_REPORT = re.compile(rb"[0-9]{1,20}(?: [0-9]{1,20}){0,2}")

REPORT_ROUND = 256
"""The most reports to read in one call, so that a template that floods the socket does not delay a deadline."""


MOST_BORN = 32
"""The most reported workers that may wait for the report that they are children of the init. A template forks 8 workers
before it sends that report. Without a limit, a template that never sends it would make the init grow."""


class SocketsForbidden(OSError):
    """The system does not let the init make a control socket."""


@dataclass(frozen=True)
class Forked:
    """A report about one worker that the init has asked for.

    The template reports each worker twice. The first report comes after the fork: it gives the pid, so that the init
    recognizes the worker's death. The second report comes when the worker has become a child of the init.

    Attributes:
        ticket: The number with which the init asked for the worker.
        pid: The worker's pid, as the template reports it; 0 if the template could not fork the worker.
        errno: The error with which the fork failed; 0 if it did not fail.
        ours: Whether the template says that the worker is a child of the init now. If no such child exists, and the
            init has not collected one, then the report is false.
    """

    ticket: int
    pid: int = 0
    errno: int = 0
    ours: bool = False


class TemplateSocket:
    """A template, and the socket on which it reports.

    The process is started with launch.runtime_command(...). It becomes a template when it reads a HELLO that asks it
    to.

    Args:
        command: See launch.start.
        environment: See launch.start.
        joins: See launch.start.

    Raises:
        SocketsForbidden: The system forbids the socket, so there can be no template.
        OSError: See launch.start.

    Attributes:
        pipes: The template, as a pid and pipes.
        ended: Whether the template has closed the socket.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], joins: Sequence[int] = ()) -> None:
        self.ended = False
        self._asked: set[int] = set()
        self._born: dict[int, int] = {}  # {ticket: pid} of the workers that are not children of the init yet
        try:
            self._socket, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        except OSError as error:
            if error.errno in NO_SOCKETS:
                raise SocketsForbidden(error.errno, error.strerror) from None
            raise
        try:
            self.pipes = launch.start(command, environment, joins, theirs.fileno())
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    @property
    def control(self) -> int:
        """Return the socket's descriptor, to poll for reports; -1 after `close`."""
        return self._socket.fileno()

    def fork(self, ticket: int, groups: Sequence[int] = ()) -> launch.ProcessPipes:
        """Ask the template to fork one worker, and return the pipes to it.

        The worker's pid is 0 until the template reports it. If the template is dying, no report will come.

        Args:
            ticket: A number that was not used before.
            groups: Descriptors of cgroup.procs files. The worker first writes to each, to join these cgroups. The
                caller keeps the descriptors, and closes them.

        Raises:
            TemplateBusy: The template has not yet read earlier requests for workers.
            OSError: No descriptors are left.
        """
        process = launch.ProcessPipes(for_our_runtime=True)
        descriptors = [*process.theirs, *groups]
        data = struct.pack(f"{len(descriptors)}i", *descriptors)
        try:
            self._socket.sendmsg([b"%d" % ticket], [(SOL_SOCKET, SCM_RIGHTS, data)], MSG_DONTWAIT)
        except ConnectionError:
            return process  # the template is dying; at its death, the init gives up this worker, too
        except OSError as error:
            process.close()
            # ETOOMANYREFS: the kernel limits how many of a user's descriptors may be unread in sockets at a time.
            if error.errno in (errno.EAGAIN, errno.ETOOMANYREFS):
                raise TemplateBusy(error.errno, error.strerror) from None
            raise
        finally:
            process.started()
        self._asked.add(ticket)
        return process

    def reports(self) -> list[Forked]:
        """Return the template's new reports, in order, without waiting.

        Raises:
            ProtocolError: A report makes no sense. The caller must not read any more reports of this template.
        """
        found: list[Forked] = []
        for _ in range(REPORT_ROUND):
            try:
                data = self._socket.recv(REPORT_SIZE + 1, MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionResetError:
                continue  # the kernel reports this once if the template died with unread data; its reports follow
            if not data:
                self.ended = True
                break
            found += self._understand(data)
        return found

    def close(self) -> None:
        """Close the init's end of the socket, so that the template ends. Its workers live on. The pipes stay open."""
        self._socket.close()

    def _understand(self, data: bytes) -> list[Forked]:
        numbers = [int(word) for word in data.split()] if _REPORT.fullmatch(data) else []
        if numbers == [0]:
            fallen = [Forked(ticket, pid, ours=True) for ticket, pid in self._born.items()]
            self._born.clear()
            return fallen
        ticket, pid, number = (*numbers, 0, 0, 0)[:3]
        makes_sense = 1 < pid < PID_LIMIT if len(numbers) == 2 else not pid and number in errno.errorcode
        if ticket not in self._asked or not makes_sense:
            raise ProtocolError(f"a report without a meaning: {data[:REPORT_SIZE]!r}")
        if len(self._born) >= MOST_BORN:
            raise ProtocolError("no report that the workers are children of the init")
        self._asked.remove(ticket)
        if pid:
            self._born[ticket] = pid
        return [Forked(ticket, pid, number)]
