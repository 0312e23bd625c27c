"""Control which process group is in the terminal's foreground, and which session the terminal belongs to.

If the terminal is gone, or belongs to another session, nothing happens. This file knows process groups, not what they
run. SIGTTOU must be blocked: otherwise the kernel stops a background process that changes the foreground.
"""

from __future__ import annotations

import fcntl
import os
import termios


class Terminal:
    """The terminal that controls this process.

    Args:
        descriptor: An open descriptor of it, which exec closes.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def find(cls) -> Terminal | None:
        """Return the controlling terminal, if there is one. Without /dev/tty, one of fds 0 to 2 may be it."""
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
        """Return the process group in the foreground; 0 if the terminal does not tell."""
        try:
            return os.tcgetpgrp(self.descriptor)
        except OSError:
            return 0

    def is_ours(self) -> bool:
        """Return whether this process is in the foreground."""
        return self.group() == os.getpgrp()

    def hand_to(self, group: int) -> bool:
        """Put a process group of this session into the foreground. Return False if the terminal refuses."""
        try:
            os.tcsetpgrp(self.descriptor, group)
        except OSError:
            return False
        return True

    def let_go(self) -> bool:
        """As the leader of the session, give up the terminal, so that another session may claim it.

        The kernel sends HUP and CONT to the foreground group of a terminal that is given up. If this process were in
        that group, it could not tell them from other processes' signals. So a group without members is put into the
        foreground first.

        Returns:
            Whether the terminal was ours to give up.

        Raises:
            OSError: No further process can be started.
        """
        if os.getsid(0) != os.getpid() or not self.is_ours():
            return False
        empty = os.fork()
        if empty == 0:
            os._exit(0)
        try:
            os.setpgid(empty, empty)  # its pid is not reused before waitpid, dead or alive
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

    def claim(self) -> None:
        """As the leader of a session without a terminal, claim it, unless another session has it."""
        try:
            fcntl.ioctl(self.descriptor, termios.TIOCSCTTY, 0)
        except OSError:
            return
