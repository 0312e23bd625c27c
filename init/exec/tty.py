"""Control which process group is in the terminal's foreground, and which session the terminal belongs to.

If the terminal is gone, or belongs to another session, the functions here change nothing. Callers must block SIGTTOU,
because otherwise the kernel stops a background process that changes the foreground. This file knows process groups, not
what they run.
"""

from __future__ import annotations

import fcntl
import os
import termios


class Terminal:
    """The controlling terminal of this process.

    Args:
        descriptor: An open descriptor of the terminal. execve(2) closes it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def find(cls) -> Terminal | None:
        """Return the controlling terminal; None if there is none. If /dev/tty does not exist, try fds 0 to 2."""
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
        """Return the process group in the terminal's foreground; 0 if it is unknown."""
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
        """Give up the terminal, so that another session may claim it. Only the leader of its session can do so.

        When a session gives up its terminal, the kernel sends HUP and CONT to the foreground group. If this process
        were in that group, it could not distinguish them from other processes' signals. So first put a process group
        without members into the foreground.

        Returns:
            Whether this process has given up the terminal. It has not if it is not the leader of its session, if it is
            not in the foreground, or if the terminal refuses.

        Raises:
            OSError: No further process can be started.
        """
        if os.getsid(0) != os.getpid() or not self.is_ours():
            return False
        empty = os.fork()
        if empty == 0:
            os._exit(0)
        try:
            os.setpgid(empty, empty)  # even if `empty` is dead, the kernel does not reuse its pid before waitpid
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
        """Claim the terminal for this process's new session, unless the terminal belongs to another session."""
        try:
            fcntl.ioctl(self.descriptor, termios.TIOCSCTTY, 0)
        except OSError:
            return
