"""Run a program: forward signals to it, collect orphans, end the processes that it leaves, and exit with its code.

The init blocks all signals from the start, and takes them one by one with sigwaitinfo(2). So it needs no handlers, has
no race between a check and a sleep, and does not wake up while nothing happens. After the program has ended, the init
also looks every 50 ms for processes that it must end, because the kernel sends no signal when a grandchild dies.

forwarding.py decides where each signal goes, and this file sends it. This file knows neither the command line nor the
protocol.
"""

from __future__ import annotations

import os
import resource  # os.wait4 needs it too, and would import it after the first death
import signal
import time
from collections.abc import Mapping
from typing import NamedTuple

from ..kernel import exit_codes, killing, reaper, signals
from ..kernel.execution import keep_only
from ..kernel.shortage import describe
from ..kernel.signals import Inherited
from . import program
from .forwarding import FORWARDABLE, HURRYING, JOB_CONTROL, STOPPING, route, signal_name
from .leftovers import FAREWELL, Leftovers
from .tty import Terminal

GRACE = 2.0
"""Seconds between TERM and KILL for the processes that the program leaves behind."""

KILL_SECONDS = 1.0
"""Seconds to wait for killed processes to end. One may be stuck in the kernel, or belong to another user."""

LONGEST_SWEEP = 10.0
"""Seconds after which the init stops killing, even if processes keep forking."""

LOOK_SECONDS = 0.05
"""Seconds between searches for remaining processes, after the program's end. If a process is not a child of the init,
its death causes no signal."""

ROUND = 256
"""The most signals to take before the init collects dead children."""

_ROOM = 4
"""The init leaves one part in this many of its limit of queued signals (RLIMIT_SIGPENDING) unused: a quarter of it."""

_SI_KERNEL = 0x80
"""The si_code in siginfo_t of a signal that comes from the kernel, for example because of a key in a terminal."""


class Options(NamedTuple):
    """The program to run, and the options for running it.

    Attributes:
        command: The program and its arguments.
        group: Whether to forward signals to the program's whole process group.
        subreaper: Whether to end all descendants of the program, not only its process group.
        verbose: Whether to write on stderr what the init does.
        rewrites: {the signal that the init receives: the signal to forward instead, 0 for none}.
        session: Whether the program gets a session of its own.
        parent_death: The signal that pipe-init gets when its parent dies, 0 for none.
        grace: Seconds between TERM and KILL for the processes that the program leaves behind.
        leave: Whether to leave those processes alone.
    """

    command: tuple[str, ...]
    group: bool = False
    subreaper: bool = False
    verbose: bool = False
    rewrites: Mapping[int, int] = {}
    session: bool = False
    parent_death: int = 0
    grace: float = GRACE
    leave: bool = False


def run(options: Options, inherited: Inherited) -> int:
    """Run the program, end the processes that it leaves, and return the exit code. All signals stay blocked."""
    try:
        init = PlainInit(options, inherited)
    except OSError as error:
        program.say(f"cannot start a process: {describe(error)}")
        return exit_codes.NOT_EXECUTABLE
    while init.status is None:
        init.wait()
    if not options.leave:
        init.end_rest()
    return exit_codes.of_status(init.status)


class PlainInit:
    """Run one program, and look after its descendants.

    The program runs while `status` is None. After that, the init ends the processes that the program has left. A signal
    of HURRYING ends their grace time early.

    Args:
        options: The program to run, and the options for running it.
        inherited: The state that this process had when it started.

    Attributes:
        status: The program's status of waitpid(2); None while the program runs.

    Raises:
        OSError: No further process can be started.
    """

    def __init__(self, options: Options, inherited: Inherited) -> None:
        self.status: int | None = None
        self._options = options
        self._is_pid_1 = os.getpid() == 1
        self._more_died = False  # whether more children have died than one round collects
        self._hurried = False
        self._refused = False  # whether the init has reported that it may not signal the program
        self._dead = 0  # how many children the init has collected
        if options.parent_death and not signals.ask_for_parents_death(options.parent_death, inherited.parent):
            program.say("this system sends no signal when a parent dies; --pdeathsig has no effect")
        has_all_orphans = self._claim_orphans()
        terminal = Terminal.find()
        if options.session and terminal is not None and not terminal.let_go():
            terminal = None
        folder = _leave_folder()
        self._child = program.start(options.command, inherited.mask, options.session, terminal, folder)
        self._leftovers = Leftovers(self._child, has_all_orphans)
        self._terminal = None if options.session else terminal
        _leave_room()
        keep_only([2, self._terminal.descriptor] if self._terminal else [2])
        if folder < 0:
            os.chdir("/")
        where = "a session" if options.session else "a process group"
        self._tell(f"started {options.command[0]!r} as pid {self._child}, in {where} of its own")

    def wait(self, seconds: float | None = None) -> None:
        """Wait for a signal, and handle it and those that have come with it.

        Args:
            seconds: How long to wait for the first signal; None to wait until one comes. Pass None while the program
                runs.
        """
        came = next_signal(0 if self._more_died else seconds)
        deaths = self._more_died
        for left in reversed(range(ROUND)):
            if came is None:
                break
            if came.si_signo == signal.SIGCHLD:
                deaths = True
            else:
                self._forward(came.si_signo, by_kernel=came.si_code == _SI_KERNEL)
            # The next turn of the loop handles the signal that this line takes. So the last turn takes none.
            came = signal.sigtimedwait(FORWARDABLE, 0) if left else None
        # The kernel delivers the lowest number first. The init handles SIGCHLD separately. So a flood of other signals
        # does not delay SIGCHLD, and orphans that die all the time do not delay other signals.
        if deaths or signal.sigtimedwait({signal.SIGCHLD}, 0) is not None:
            self._collect()

    def end_rest(self) -> None:
        """End the processes that the program left: SIGTERM, a wait, SIGKILL. A signal of HURRYING skips the wait."""
        deadline = time.monotonic() + self._options.grace
        while self._leftovers.exist and not self._hurried and (left := deadline - time.monotonic()) > 0:
            self._leftovers.ask_new_orphans()
            self.wait(left if self._is_pid_1 else min(left, LOOK_SECONDS))
        if not self._leftovers.exist:
            return
        self._tell("kills what is left")
        now = time.monotonic()
        deadline, last, dead = now + KILL_SECONDS, now + LONGEST_SWEEP, self._dead
        while self._leftovers.exist and (left := deadline - time.monotonic()) > 0:
            self._leftovers.kill()
            self.wait(min(left, LOOK_SECONDS))
            if self._dead != dead:  # the next round may find children that these dead processes had
                deadline, dead = min(time.monotonic() + KILL_SECONDS, last), self._dead
        if self._leftovers.exist:
            program.say("killed processes are still there: another user's, stuck in the kernel, or forking on and on")

    def _claim_orphans(self) -> bool:
        """Make the init adopt orphans. Return whether it must later end even orphans outside the program's group."""
        if self._is_pid_1:
            return True
        wanted = self._options.subreaper
        if not reaper.become_subreaper():
            text = "this system has no subreaper: orphans go to PID 1, and the init does not wait for them at the end"
            (program.say if wanted else self._tell)(text)
            return False
        if wanted and reaper.has_children():
            # This process had these children before it executed pipe-init. Later they would look like orphans.
            program.say("there were children before: at the end only the program's own process group is ended")
            return False
        return wanted

    def _forward(self, came: int, by_kernel: bool) -> None:
        """Forward a signal to the program. If the signal stops the program, stop the init too."""
        options = self._options
        number, group, stop = route(came, options.rewrites, options.group, options.session)
        if self.status is not None:
            self._hurried = self._hurried or number in HURRYING
            return
        if number:
            self._send(came, number, group)
        else:
            self._tell(f"{signal_name(came)} is not passed on")
        # A CONT that has come meanwhile must wake the program and the init. If the init stopped now, the kernel would
        # drop that CONT.
        if stop and signal.SIGCONT not in signal.sigpending():
            if by_kernel and came in JOB_CONTROL:
                self._stop_as_terminals_do(came, os.getpid(), wakes=number in STOPPING)
            else:
                os.kill(os.getpid(), signal.SIGSTOP)

    def _send(self, came: int, number: int, group: bool) -> None:
        self._tell(f"{signal_name(came)}: sends {signal_name(number)} to {'the group of ' * group}{self._child}")
        if number == signal.SIGCONT and self._terminal is not None and self._terminal.is_ours():
            self._terminal.hand_to(self._child)  # a shell has put the init into the foreground
        sent = (killing.signal_group if group else killing.signal_child)(self._child, number)
        if not sent and not self._refused:
            self._refused = True
            program.say(f"cannot send {signal_name(number)} to pid {self._child}: it is another user's")

    def _stop_as_terminals_do(self, number: int, target: int, wakes: bool = True) -> None:
        """Stop because of a terminal's signal. Like the kernel, stop only if a shell can continue this process.

        Args:
            number: The signal, one of JOB_CONTROL.
            target: The target of kill(2). 0 is the init's process group, to which a key in the terminal sends a signal.
            wakes: Whether to continue the program if this process cannot stop, because it is PID 1 or its process group
                is orphaned.
        """
        os.kill(target, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})  # this process stops here
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        if wakes and number == signal.SIGTSTP and signal.SIGCONT not in signal.sigpending():
            self._tell("cannot stop here, so the program goes on")
            killing.signal_group(self._child, signal.SIGCONT)

    def _collect(self) -> None:
        """Collect dead children. If a terminal has stopped the program, stop the init too."""
        running = self.status is None
        if running:
            self._follow_stop()
        farewell = () if self._is_pid_1 or self._options.leave else FAREWELL
        reaped = reaper.reap([self._child] if running else (), farewell=farewell)
        self._more_died = reaped.more
        self._dead += len(reaped.deaths)
        for death in reaped.deaths:
            self._leftovers.forget(death.pid)
            if death.pid != self._child or self.status is not None:
                self._tell(f"pid {death.pid}, an orphan, ended: {death.description}")
                continue
            self._tell(f"pid {death.pid} ended: {death.description}")
            self.status = death.status
            if self._terminal is not None and self._terminal.group() == self._child:
                self._terminal.hand_to(os.getpgrp())  # the script that started pipe-init continues in this group
            if not self._options.leave:
                self._leftovers.ask_everybody()

    def _follow_stop(self) -> None:
        """Stop the init if a terminal has stopped the program, because the user's shell waits for the init."""
        try:
            seen = os.waitid(os.P_PID, self._child, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
            if seen is None or seen.si_code == os.CLD_TRAPPED:
                return  # the program has asked to be traced: reaper.reap continues it
            seen = os.waitid(os.P_PID, self._child, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return  # the program is dead by now
        if seen is not None and seen.si_status in STOPPING:
            self._tell(f"pid {self._child} was stopped by {signal_name(seen.si_status)}")
            woken = signal.SIGCONT in signal.sigpending()
            if self._terminal is not None and seen.si_status in JOB_CONTROL and not woken:
                self._stop_as_terminals_do(seen.si_status, 0)

    def _tell(self, text: str) -> None:
        if self._options.verbose:
            program.say(text)


def next_signal(seconds: float | None) -> signal.struct_siginfo | None:
    """Wait for the next signal, and return it.

    An alarm ends the wait, so the signal may be SIGALRM. The timeout of sigtimedwait(2) is unusable here. If the
    process is stopped, and continued only after the timeout, CPython returns a siginfo that was never filled in.

    Args:
        seconds: How long to wait; None to wait until a signal comes. If it is 0, return None if no signal is pending.
    """
    everything = signal.valid_signals()
    if seconds is None:
        return signal.sigwaitinfo(everything)
    if seconds <= 0:
        return signal.sigtimedwait(everything, 0)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return signal.sigwaitinfo(everything)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _leave_folder() -> int:
    """Change to the root folder, so that the file system in which pipe-init was started can be unmounted.

    Returns:
        A descriptor of the folder in which the program starts. -1 if pipe-init cannot open that folder, or could not
        enter it again. In that case pipe-init has not left the folder.
    """
    try:
        folder = os.open(".", os.O_PATH)
        os.fchdir(folder)
        os.chdir("/")
    except OSError:
        return -1  # if the folder was opened, keep_only closes its descriptor later
    return folder


def _leave_room() -> None:
    """Lower the init's limit of queued signals, so that the program can still get the signals that the init forwards.

    When a signal comes, the kernel counts the queued signals of all processes of the user. It compares that number with
    the limit of the receiving process. If the init had the same limit as the program, signals that wait for the init
    could use it up. Then kill(2) would silently drop a real-time signal that the init forwards.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    if soft > 0:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (soft - max(1, soft // _ROOM), hard))
