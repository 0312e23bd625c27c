"""The controlling terminal: who is in its foreground, and whose session it belongs to.

Everything here is an offer to the terminal: where it is gone, or belongs to others, nothing happens. This file knows
process groups, not what they run. It counts on SIGTTOU being blocked: else a process in the background would be
stopped by asking.
"""

from __future__ import annotations

import fcntl
import os
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
        """As the leader of the session, give up the terminal, so that another session may claim it.

        The kernel sends HUP and CONT to the foreground group of a terminal that is lost. If we were in that group, we
        could not tell them from signals of other processes. So a group without members is brought to the front first.

        Returns:
            Whether it was ours to give.

        Raises:
            OSError: there is no process left to do it with.
        """
        if os.getsid(0) != os.getpid() or not self.is_ours():
            return False
        empty = os.fork()
        if empty == 0:
            os._exit(0)
        try:
            os.setpgid(empty, empty)  # it has its number until it is collected, alive or not
            handed = self.hand_to(empty)
        finally:
            os.waitpid(empty, 0)
        if not handed:
            return False
        try:
            fcntl.ioctl(self.descriptor, termios.TIOCNOTTY)
        except OSError:
            self.hand_to(os.getpgrp())
            return False
        return True

    def claim(self) -> bool:
        """As the leader of a session that has no terminal, make it ours. False: it is somebody else's."""
        try:
            fcntl.ioctl(self.descriptor, termios.TIOCSCTTY, 0)
        except OSError:
            return False
        return True
