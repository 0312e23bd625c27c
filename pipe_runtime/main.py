"""Run a runtime process from its start to its end: HELLO, loading, READY, requests, and the exit code.

A template does more between its READY and the next HELLO: it forks workers (template/fork_server.py). Each forked
worker goes on here with a HELLO of its own. This module must not know how a request is served.
"""

from __future__ import annotations

import sys

from . import namespace
from .call import faults
from .serve.loop import Loop
from .serve.process import EXIT_STOPPED, Process, complain, exit_code, leave, lost_pipe_code
from .wire.errors import Fault, ProtocolError
from .wire.messages import ERROR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import NoReturn

    from .serve.hello import Configuration
    from .serve.process import Outcome

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PROTOCOL = 4


def main(baseline: Collection[str]) -> NoReturn:
    """Serve until STOP or the end of stdin, then end the process.

    Args:
        baseline: The names in sys.modules before the runtime imported any module.
    """
    try:
        process = Process(baseline)
    except OSError as error:
        complain(f"stdin and stdout must be pipes: {error.strerror}")
        leave(EXIT_USAGE)
    try:
        code = _converse(process)
    except SystemExit as error:
        code = exit_code(error)
    except OSError as error:
        leave(lost_pipe_code(error))
    except ProtocolError as error:
        if not process.last_word({"error_type": "Runtime.ProtocolError", "error_message": str(error)}):
            complain(str(error))
        leave(EXIT_PROTOCOL)
    except Fault as fault:  # an error of a template
        process.last_word(faults.describe(fault))
        leave(EXIT_FAILED)
    except BaseException as error:  # a signal handler of the function raised it while the runtime's own code ran
        sys.excepthook(type(error), error, error.__traceback__)
        leave(EXIT_FAILED)
    leave(code, process.guard.terminated)


def _converse(process: Process) -> int:
    """Hold the conversation with the init, and return the exit code.

    Raises:
        ProtocolError: The init broke the protocol.
        BrokenPipeError: The init is gone.
    """
    loop = Loop(process)
    hello = loop.next_frame()
    if hello is None:
        return EXIT_STOPPED  # the init closed the stream before HELLO, because it needs no worker any more
    configuration = loop.greet(hello)

    def prepare(configuration: Configuration) -> Outcome:
        """Prepare a worker that no template has forked: load the function, and return READY."""
        loop.load(configuration)
        if configuration.rehearse:
            namespace.own("template.ahead").Rehearsal(process, loop.function, 1).run()
        return loop.become_ready(configuration)

    if configuration.template is not None:
        fork_server = namespace.own("template.fork_server").ForkServer(loop, hello)
        if not _announce(process, fork_server.load, configuration):
            return EXIT_FAILED
        configuration = fork_server.serve()
        if configuration is None:
            return EXIT_STOPPED  # the template has ended, or the init needs this forked worker no more
        prepare = fork_server.prepare
    if not _announce(process, prepare, configuration):
        return EXIT_FAILED
    loop.serve()
    return EXIT_STOPPED if loop.stop() else EXIT_FAILED


def _announce(process: Process, prepare: Callable[[Configuration], Outcome], configuration: Configuration) -> bool:
    """Call prepare(configuration) and send READY. If that fails, send the error and return False."""
    kind, metadata, _ = process.guard.call(prepare, configuration, process.problem)
    process.log.flush()
    if process.guard.terminated:
        return False
    if kind == ERROR:
        process.last_word(metadata)
        return False
    process.outbox.post(kind, 0, metadata)
    return True
