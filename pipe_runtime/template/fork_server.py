"""Load the function once, and fork a worker whenever the init asks for one.

The runtime loads this module only if HELLO asks for a template. This module uses the control socket, through which the
init asks for workers. It prepares each forked worker for its own conversation with the init. It must not know requests:
after its HELLO, a forked worker runs like any other worker.
"""

from __future__ import annotations

import sys
from _socket import CMSG_LEN, MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_DONTWAIT, socket
from errno import EAGAIN, EMFILE

# Import the names now: the function may later replace the attributes of `os`, as gevent and eventlet do.
from os import _exit, close, dup2, listdir, set_inheritable, setsid, waitpid, waitstatus_to_exitcode, write
from select import POLLIN, poll

from .. import namespace
from ..call.usage import Meter
from ..io.pipes import replace, write_all
from ..log.writer import NO_REQUEST
from ..namespace import late
from ..serve.process import Conversation
from ..wire.alive_pipe import ALIVE_FD, arm
from ..wire.errors import Fault, ProtocolError
from ..wire.frames import Frame
from ..wire.messages import DUMP, STOP
from .ahead import Greeting, Rehearsal
from .process_state import ProcessState, fork_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..serve.hello import Configuration
    from ..serve.loop import Loop
    from ..serve.process import Outcome

    Wanted = tuple[bytes, list[int]]
    """A worker that the init asks for: its ticket, and its PIPES descriptors, then a file of each cgroup to enter."""

BATCH = 8
"""The most workers that one child of the template forks. After the last fork the child ends, and the init becomes the
parent of these workers."""

PIPES = 5
"""The number of pipes whose descriptors come with a request for a worker: requests, answers, log, alive and dump."""

MAX_DESCRIPTORS = 32
"""The most descriptors that one request for a worker may carry, including the files of cgroups."""

REHEARSALS = 20
"""How many rehearsals the template runs. By then, Python has specialised the bytecode that all workers share."""

EXIT_FORKED = 213
"""The exit code of a process that has forked a batch. It is not 0, because a fork hook may call os._exit(0)."""

NAMED_THREADS = 8
"""The most names of threads in the warning about threads that the function has started."""


class ForkServer:
    """Fork workers, which serve the function that `loop` has loaded.

    Args:
        loop: The template's loop.
        hello: The HELLO that made the process a template.
    """

    def __init__(self, loop: Loop, hello: Frame) -> None:
        self._loop = loop
        self._process = loop.process
        self._hello = hello.metadata
        self._poll = poll()

    def load(self, configuration: Configuration) -> Outcome:
        """Load the function, and the modules that each worker would otherwise import. Raise what the loading raises."""
        process, loop = self._process, self._loop
        descriptor = (configuration.template or {}).get("control_fd")
        if type(descriptor) is not int:
            raise Fault("Runtime.ProtocolError", "HELLO whose template has no control_fd")
        set_inheritable(descriptor, False)
        self._control = process.control = socket(fileno=descriptor)
        self._state = ProcessState(adopts=configuration.adopts_orphans)
        collect, freeze = late.gc.collect, late.gc.freeze  # get them now, because the function may replace them
        loop.load(configuration)
        if not loop.function.is_plain:
            engine = namespace.own("serve.invoker").Invoker(loop.function, process).engine
            if engine == "tasks":
                namespace.own("serve.tasks")  # load it here once instead of in each worker
            elif engine == "threads":
                namespace.own("serve.threads")
        process.leave_if_forked()
        self._warn_of_threads()
        self._make_ahead()
        collect()
        freeze()  # otherwise each worker's first collection would write to all loaded objects, and so copy their memory
        return loop.ready()

    def _make_ahead(self) -> None:
        """Make the objects that each worker needs. If a worker made them, it would copy more pages of memory."""
        process, function = self._process, self._loop.function
        self._conversation, self._meter = Conversation(process.pipes.copy()), Meter(forked=True)
        # Keep these objects alive: to free them, a worker would have to write to their memory.
        self._inherited = (process.pipes, process.connection, process.outbox, process.meter)
        self._greeting = Greeting(process, self._hello)
        self._rehearsal = Rehearsal(process, function, REHEARSALS + 1)
        for _ in range(REHEARSALS):
            self._rehearsal.run(prints=True)
        # Python's own `random` seeds itself in each fork (os.register_at_fork).
        self._seed = getattr(sys.modules.get("numpy.random"), "seed", None)

    def serve(self) -> Configuration | None:
        """Fork workers until the init sends STOP, ends the stream of frames, or closes the control socket.

        Returns:
            In a worker: the configuration in the init's HELLO, or None if the worker's stream has ended. In the
            template: None.
        """
        process = self._process
        self._state.set_aside()
        self._poll.register(process.pipes.requests, POLLIN)
        self._poll.register(self._control.fileno(), POLLIN)
        goes_on = self._take_frames()
        while goes_on:
            ready = dict(process.guard.wait(self._poll.poll))
            if process.pipes.requests in ready:
                with process.outbox.lock:
                    process.connection.receive(process.pipes.read())
                goes_on = self._take_frames()
            else:
                batch, more = self._receive()
                if batch and self._fork_batch(batch):
                    return self._greeting.exchange(process, self._loop)
                if not more:
                    return None
        return None

    def prepare(self, configuration: Configuration) -> Outcome:
        """Prepare a forked worker for its first request, and return READY. Raise any error of the function's code."""
        if self._seed is not None:
            self._seed()
        if configuration.rehearse:
            self._rehearsal.run()
        return self._loop.become_ready(configuration)

    def _take_frames(self) -> bool:
        """Handle the frames that the init has sent. Return False if the template has to end."""
        process = self._process
        while (event := process.next_frame()) is not None:
            if not isinstance(event, Frame) or event.kind == STOP:
                return False
            if event.kind != DUMP:
                raise ProtocolError("a request to a template")
            process.outbox.post(DUMP, metadata={"stacks": []})
        return True

    # The control socket: the init sends a ticket with descriptors. The template answers with the ticket and the pid of
    # the worker. If it cannot fork, it answers with the ticket, 0 and an errno.

    def _receive(self) -> tuple[list[Wanted], bool]:
        """Return the workers that the init asks for, at most BATCH of them, and whether the socket is still open."""
        batch: list[Wanted] = []
        while len(batch) < BATCH:
            try:
                text, ancillary, flags, _ = self._control.recvmsg(
                    64, CMSG_LEN(4 * MAX_DESCRIPTORS), MSG_DONTWAIT | MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                break
            whole = [memoryview(data[: len(data) // 4 * 4]) for _, _, data in ancillary]
            descriptors = [descriptor for data in whole for descriptor in data.cast("i")]
            if not text:
                return batch, False
            if flags & MSG_CTRUNC or len(descriptors) < PIPES:  # this process has as many open files as it may have
                _close(descriptors)
                self._control.send(b"%b 0 %d" % (text, EMFILE))
            else:
                batch.append((text, descriptors))
        return batch, True

    # The forks

    def _fork_batch(self, batch: list[Wanted]) -> bool:
        """Fork a worker for each request in the batch. Return whether this process is one of the workers.

        The template forks a child. The child forks the workers and ends. So the init, which is a subreaper or PID 1,
        becomes the workers' parent and learns from the kernel how each one dies. If a worker were the template's child,
        the template would have to report the worker's death, and a hostile template could lie.
        """
        process = self._process
        process.write_last_lines()  # otherwise each worker would write again what is still buffered
        process.forks_workers = True
        try:
            child = fork_process()
        except OSError as error:
            child = -1
            for ticket, _ in batch:
                self._control.send(b"%b 0 %d" % (ticket, error.errno or EAGAIN))
        self._state.keep()
        if child == 0:
            self._become_worker(self._fork_workers(batch))
        for _, descriptors in batch:
            _close(descriptors)
        process.forks_workers = False
        if child > 0:
            self._wait_for(child)
        return child == 0

    def _fork_workers(self, batch: list[Wanted]) -> list[int]:
        """Fork the workers in the template's child, and send the init the pid of each one.

        The child sends each pid before it ends and the init becomes the worker's parent. Otherwise the init would take
        the worker for an orphan of the function. The method returns only in the workers: the child ends.

        Returns:
            The worker's descriptors.
        """
        worker = -1
        try:
            for ticket, descriptors in batch:
                try:
                    worker = fork_process()
                except OSError as error:
                    self._control.send(b"%b 0 %d" % (ticket, error.errno or EAGAIN))
                    continue
                if worker == 0:
                    return descriptors
                self._state.keep()  # at once: the worker may die at any time
                self._control.send(b"%b %d" % (ticket, worker))
            _exit(EXIT_FORKED)  # no code of the function may run here
        finally:
            if worker != 0:
                _exit(1)

    def _wait_for(self, child: int) -> None:
        """Wait until the child has ended, so that the init is the workers' parent. Then tell the init so."""
        try:
            _, status = waitpid(child, 0)
        except ChildProcessError:  # the child has ended, and a thread of the function has collected it
            status = EXIT_FORKED << 8
        code = waitstatus_to_exitcode(status)
        if code != EXIT_FORKED:
            hook = "a fork hook of the function's (os.register_at_fork) may have ended it"
            how = f"died: signal {-code}" if code < 0 else f"ended with exit status {code}; {hook}"
            raise Fault("Runtime.ExitError", f"the process that forks the workers has {how}")
        self._control.send(b"0")

    # In a worker

    def _become_worker(self, descriptors: list[int]) -> None:
        """Replace the template's descriptors with the descriptors that the init has sent for this worker."""
        process = self._process
        requests, answers, log, guard, dump, *groups = descriptors
        try:
            for group in groups:
                write(group, b"0")
            arm(guard, alone=True)  # before this line, the worker dies with the template's process group
            setsid()
            dup2(guard, ALIVE_FD)
            arm(ALIVE_FD)
            if process.dump_fd >= 0:
                dup2(dump, process.dump_fd, False)  # faulthandler already writes to dump_fd
            replace(self._conversation.pipes, requests, answers, log)
        except OSError as error:
            write_all(log, f"pipe_runtime: a forked process cannot become a worker: {error}\n".encode())
            _exit(1)
        self._control.close()
        process.control = None
        process.meter = self._meter
        self._loop.restart(self._conversation)
        self._state.give_back()

    # Before the first fork

    def _warn_of_threads(self) -> None:
        module: Any = sys.modules.get("threading")
        names = []
        if module is not None and namespace.is_standard(namespace.spec_of(module)):
            main = module.main_thread()
            names = [ascii(thread.name)[1:-1] for thread in module.enumerate() if thread is not main]
        try:
            count = len(listdir("/proc/self/task")) - 1
        except OSError:
            count = len(names)
        if count:
            known = f" ({', '.join(names[:NAMED_THREADS])})" if names else ""
            self._process.log.write(
                f"pipe_runtime: {count} thread{'s' * (count > 1)}{known} started while the function was loaded: "
                "a forked worker has none of them; use pipe_runtime.after_fork",
                NO_REQUEST,
            )


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        close(descriptor)
