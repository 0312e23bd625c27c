"""A plain init for any program: forwards signals to it, collects orphans, ends what it leaves, exits with its code.

All signals are blocked from the first line on and taken one by one: no handler, no race between a look and a sleep,
and no wake-up while the program runs and nothing happens. This file performs; forwarding.py decides which signal goes
where. It knows neither the command line nor the protocol.
"""

from __future__ import annotations

import os
import resource  # also for wait4(2)'s result: Python would look for it when the first child has died
import signal
import time
from collections.abc import Mapping
from typing import NamedTuple

from ..kernel import killing, procfs, reaper, signals
from ..kernel.descriptors import keep_only
from ..kernel.shortage import describe
from ..kernel.signals import Inherited
from . import program
from .forwarding import EXIT_NOT_EXECUTABLE, FORWARDABLE, HURRYING, JOB_CONTROL, STOPPING, Rules, exit_code, signal_name
from .tty import Terminal

GRACE = 2.0
"""Seconds between TERM and KILL for what the program leaves behind."""

KILL_SECONDS = 1.0
"""How long to wait for what was killed: it may be stuck in the kernel, or be another user's."""

LONGEST_SWEEP = 10.0
"""Seconds for killing, while there are ever more to kill."""

LOOK_SECONDS = 0.05
"""How often to look, at the end only, for those who are no children of ours yet, or never: nobody tells of them."""

ROUND = 256
"""Signals to take before dead children have their turn."""

_ROOM = 4
"""The init leaves this part of the queued signals that its user may have (RLIMIT_SIGPENDING) to the program."""

_SI_KERNEL = 0x80
"""siginfo_t's si_code of a signal from the kernel, such as a terminal's signal for a key."""

_FAREWELL = (signal.SIGTERM, signal.SIGCONT)
"""What is stopped takes its TERM only when it is continued."""


class Options(NamedTuple):
    """What to run, and how.

    Attributes:
        command: The program and its arguments.
        group: Forward signals to the program's whole process group.
        subreaper: End all descendants of the program, not only its process group.
        verbose: Say on stderr what is done.
        rewrites: {the signal that comes: the signal to send instead, 0 for none}.
        session: Give the program a session of its own.
        parent_death: The signal that pipe-init gets when its parent dies, 0 for none.
        grace: Seconds between TERM and KILL for processes that the program leaves.
        leave: Leave those processes alone.
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
    """Run the program to its end, and end what it leaves; returns the exit code. All signals stay blocked."""
    init = PlainInit(options)
    try:
        init.start(inherited)
    except OSError as error:
        program.say(f"cannot start a process: {describe(error)}")
        return EXIT_NOT_EXECUTABLE
    while init.status is None:
        init.wait()
    if not options.leave:
        init.end_rest()
    return exit_code(init.status)


class PlainInit:
    """One program and all that comes of it. status: how it ended, as of waitpid(2); None while it runs."""

    def __init__(self, options: Options) -> None:
        self.status: int | None = None
        self._options = options
        self._rules = Rules(options.rewrites, options.group, options.session)
        self._pid_1 = os.getpid() == 1
        self._child = 0
        self._answers_for_all = False
        self._terminal: Terminal | None = None
        self._more = False
        self._hurried = False
        self._refused = False
        self._dead = 0
        self._asked: set[int] = set()

    def start(self, inherited: Inherited) -> None:
        """Start the program. OSError: there is no process left to do it with."""
        options = self._options
        if options.parent_death and not signals.ask_for_parents_death(options.parent_death, inherited.parent):
            program.say("this system tells nobody of a parent's death; --pdeathsig has no effect")
        self._answers_for_all = self._claim_orphans()
        terminal = Terminal.find()
        if options.session and terminal is not None and not terminal.let_go():
            terminal = None
        folder = _leave_folder()
        self._child = program.start(options.command, inherited.mask, options.session, terminal, folder)
        self._terminal = None if options.session else terminal
        _leave_room()
        keep_only([2, self._terminal.descriptor] if self._terminal else [2])
        if folder < 0:
            os.chdir("/")
        where = "a session" if options.session else "a process group"
        self._tell(f"started {options.command[0]!r} as pid {self._child}, in {where} of its own")

    def wait(self, seconds: float | None = None) -> None:
        """Wait for signals, and act on each that is taken.

        Args:
            seconds: How long to wait for the first one; None to wait until one comes. A limit is only given after the
                program has ended.
        """
        came = self._first(0 if self._more else seconds)
        deaths = self._more
        for left in reversed(range(ROUND)):
            if came is None:
                break
            if came.si_signo == signal.SIGCHLD:
                deaths = True
            else:
                self._forward(came.si_signo, by_kernel=came.si_code == _SI_KERNEL)
            # The loop acts on what is taken here in its next turn, so the last turn takes nothing.
            came = signal.sigtimedwait(FORWARDABLE, 0) if left else None
        # The kernel gives out the lowest number first. SIGCHLD has a turn of its own, so that neither a flood of other
        # signals delays it, nor orphans that die all the time delay the others.
        if deaths or signal.sigtimedwait({signal.SIGCHLD}, 0) is not None:
            self._collect()

    def _first(self, seconds: float | None) -> signal.struct_siginfo | None:
        """Take a signal; return None if none came in time.

        An alarm ends the wait, and not the limit of sigtimedwait(2): if the process is stopped, and continued after
        that limit, CPython returns a siginfo that was never filled in.
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

    def end_rest(self) -> None:
        """End what the program left: TERM, the grace time, KILL. What was asked to hurry does not wait."""
        deadline = time.monotonic() + self._options.grace
        while self._is_something_left() and not self._hurried and (left := deadline - time.monotonic()) > 0:
            self._ask_orphans()
            self.wait(left if self._pid_1 else min(left, LOOK_SECONDS))
        if not self._is_something_left():
            return
        self._tell("kills what is left")
        now = time.monotonic()
        deadline, last, dead = now + KILL_SECONDS, now + LONGEST_SWEEP, self._dead
        while self._is_something_left() and (left := deadline - time.monotonic()) > 0:
            self._kill()
            self.wait(min(left, LOOK_SECONDS))
            if self._dead != dead:  # each round may only bring the children of those that died
                deadline, dead = min(time.monotonic() + KILL_SECONDS, last), self._dead
        if self._is_something_left():
            program.say("what was killed is still there; it is another user's, stuck in the kernel, or forks on and on")

    def _claim_orphans(self) -> bool:
        """Have orphans fall to us; returns whether they are ours to end, too, when they have left the group."""
        if self._pid_1:
            return True
        wanted = self._options.subreaper
        if not reaper.become_subreaper():
            text = "this system has no subreaper: orphans go to PID 1, and what is left at the end is not waited for"
            (program.say if wanted else self._tell)(text)
            return False
        if wanted and reaper.has_children():
            # They were our predecessor's, before it executed us, and later nobody can tell them from orphans.
            program.say("there were children before: at the end only the program's own process group is ended")
            return False
        return wanted

    def _forward(self, came: int, by_kernel: bool) -> None:
        """Send a signal on, and stop with the program if it stops."""
        number, group, stop = self._rules.decide(came)
        if self.status is not None:
            self._hurried = self._hurried or number in HURRYING
            return
        if number:
            self._send(came, number, group)
        else:
            self._tell(f"{signal_name(came)} is not passed on")
        if stop:
            self._stop(came, by_kernel, wakes=number in STOPPING)

    def _send(self, came: int, number: int, group: bool) -> None:
        self._tell(f"{signal_name(came)}: sends {signal_name(number)} to {'the group of ' * group}{self._child}")
        if number == signal.SIGCONT:
            self._bring_to_front()
        sent = (killing.signal_group if group else killing.signal_child)(self._child, number)
        if not sent and not self._refused:
            self._refused = True
            program.say(f"cannot send {signal_name(number)} to pid {self._child}: it is another user's")

    def _stop(self, came: int, by_kernel: bool, wakes: bool) -> None:
        """Stop ourselves. wakes: where that is impossible, the program is to go on.

        A CONT that has come since is to wake both. The kernel would drop it, as it does where a process is stopped.
        """
        if signal.SIGCONT in signal.sigpending():
            return
        if by_kernel and came in JOB_CONTROL:
            self._stop_as_terminals_do(came, os.getpid(), wakes)
        else:
            os.kill(os.getpid(), signal.SIGSTOP)

    def _bring_to_front(self) -> None:
        """Where a shell has brought us into the foreground, that is the program's place."""
        if self._terminal is not None and self._terminal.is_ours():
            self._terminal.hand_to(self._child)

    def _stop_as_terminals_do(self, number: int, target: int, wakes: bool = True) -> None:
        """Stop by a terminal's signal as the kernel does it, so only if a shell is left that can continue us.

        Args:
            number: The signal, one of JOB_CONTROL.
            target: As for kill(2): 0 is our whole process group, as with a key.
            wakes: Continue the program if the stop has no effect on us, as on PID 1 or in an orphaned group.
        """
        os.kill(target, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})  # here we stop
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        if wakes and number == signal.SIGTSTP and signal.SIGCONT not in signal.sigpending():
            self._tell("cannot stop here, so the program goes on")
            killing.signal_group(self._child, signal.SIGCONT)

    def _collect(self) -> None:
        """Take all that children have to tell: one may have stopped, many may have died."""
        running = self.status is None
        if running:
            self._follow_stop()
        farewell = () if self._pid_1 or self._options.leave else _FAREWELL
        deaths, _, self._more = reaper.reap([self._child] if running else (), farewell=farewell)
        self._dead += len(deaths)
        for death in deaths:
            self._asked.discard(death.pid)
            if death.pid != self._child or self.status is not None:
                self._tell(f"pid {death.pid}, an orphan, ended: {death.description}")
                continue
            self._tell(f"pid {death.pid} ended: {death.description}")
            self.status = death.status
            self._take_terminal_back()
            if self._pid_1 and not self._options.leave:
                self._signal_everybody(*_FAREWELL)

    def _follow_stop(self) -> None:
        """If a terminal has stopped the program, stop too: our shell waits for us, and knows nothing of the program."""
        try:
            seen = os.waitid(os.P_PID, self._child, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
            if seen is None or seen.si_code == os.CLD_TRAPPED:
                return  # a program that has asked to be traced: reaper.reap lets it go on
            seen = os.waitid(os.P_PID, self._child, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return  # it is dead by now
        if seen is not None and seen.si_status in STOPPING:
            self._tell(f"pid {self._child} was stopped by {signal_name(seen.si_status)}")
            woken = signal.SIGCONT in signal.sigpending()
            if self._terminal is not None and seen.si_status in JOB_CONTROL and not woken:
                self._stop_as_terminals_do(seen.si_status, 0)

    def _take_terminal_back(self) -> None:
        """Leave the terminal as it was: a script that started us goes on in the foreground."""
        if self._terminal is not None and self._terminal.group() == self._child:
            self._terminal.hand_to(os.getpgrp())

    def _is_something_left(self) -> bool:
        return reaper.has_children() if self._answers_for_all else self._is_group_left()

    def _is_group_left(self) -> bool:
        return reaper.has_child_in(self._child) or procfs.has_member_below(self._child)

    def _ask_orphans(self) -> None:
        """TERM for each orphan that has not had it: not from its group, nor, as PID 1 sends it, together with all."""
        if not self._answers_for_all or self._pid_1:
            return
        for pid in set(reaper.children()) - self._asked:
            self._asked.add(pid)
            if _group_of(pid) != self._child:
                for number in _FAREWELL:
                    killing.signal_child(pid, number)

    def _kill(self) -> None:
        if self._pid_1:
            self._signal_everybody(signal.SIGKILL)
            return
        if self._is_group_left():
            killing.signal_group(self._child, signal.SIGKILL)
        if self._answers_for_all:
            killing.kill(reaper.children())

    def _signal_everybody(self, *numbers: int) -> None:
        """As PID 1: all processes of this PID namespace but ourselves."""
        for number in numbers:
            killing.signal_child(-1, number)

    def _tell(self, text: str) -> None:
        if self._options.verbose:
            program.say(text)


def _leave_folder() -> int:
    """Go to the root folder, so that the file system in which pipe-init was started can be unmounted.

    Returns:
        A descriptor of the folder in which the program starts. -1 if that folder cannot be opened, or could not be
        entered again; then pipe-init is still in it.
    """
    try:
        folder = os.open(".", os.O_PATH)
    except OSError:
        return -1
    try:
        os.fchdir(folder)
        os.chdir("/")
    except OSError:
        os.close(folder)
        return -1
    return folder


def _leave_room() -> None:
    """Lower our limit of queued signals, so that the kernel refuses signals to us before those to the program.

    The limit is that of the process that a signal is sent to, and it is compared with what is queued for all of the
    user's processes. So there is room for each real-time signal that we forward; else kill(2) would drop it silently.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    if soft > 0:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (soft - max(1, soft // _ROOM), hard))


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0
