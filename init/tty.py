"""The controlling terminal: who is in its foreground, and whose session it belongs to.

Everything here is an offer to the terminal: where it is gone, or belongs to others, nothing happens. This file knows
process groups, not what they run. It counts on SIGTTOU being blocked: else a process in the background would be
stopped by asking.
"""

from __future__ import annotations

import fcntl
import os
import signal
import termios


class Terminal:
    """A terminal that controls this process. descriptor: our own, closed by exec."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def find(cls) -> Terminal | None:
        """The controlling terminal, if there is one: where /dev/tty is missing, one of fds 0 to 2 may lead to it."""
        try:
            return cls(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
        except OSError:
            for descriptor in range(3):
                try:
                    os.tcgetpgrp(descriptor)
                    return cls(os.dup(descriptor))
                except OSError:
                    continue
        return None

    def group(self) -> int:
        """The foreground's process group; 0 if that cannot be told."""
        try:
            return os.tcgetpgrp(self.descriptor)
        except OSError:
            return 0

    def is_ours(self) -> bool:
        """Whether this process is in the foreground."""
        return self.group() == os.getpgrp()

    def hand_to(self, group: int) -> bool:
        """Put a process group of this session into the foreground. False: it is not to be had."""
        try:
            os.tcsetpgrp(self.descriptor, group)
        except OSError:
            return False
        return True

    def let_go(self) -> bool:
        """As the leader of the session, give up the terminal for another one. False: it was not ours to give.

        The kernel tells the foreground, that is us, of a lost terminal with HUP and CONT. They are taken here, or
        they would look as if somebody had sent them; one that came before is put back.
        """
        if os.getsid(0) != os.getpid() or not self.is_ours():
            return False
        before = signal.sigpending()
        try:
            fcntl.ioctl(self.descriptor, termios.TIOCNOTTY)
        except OSError:
            return False
        for number in (signal.SIGHUP, signal.SIGCONT):
            if number not in before:
                signal.sigtimedwait({number}, 0)
        return True

    def claim(self) -> bool:
        """As the leader of a session that has no terminal, make it ours. False: it is somebody else's."""
        try:
            fcntl.ioctl(self.descriptor, termios.TIOCSCTTY, 0)
        except OSError:
            return False
        return True
