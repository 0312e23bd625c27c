"""Fork a child for each request before the request comes: the fastest way in Python to give each request a process.

    python -m arms.bare_forks REQUESTS SINGLE PAUSE

Each child reads one frame, calls the handler, answers and exits. It keeps none of pipe-init's promises: there is no
init, deadline, log or process group, and nothing ends the processes that a request leaves behind. The time of a fork
depends on the size of the parent's memory. So the parent imports the same modules as a template.

The command prints JSON: the requests per second without pauses, the nanoseconds of each of SINGLE requests with PAUSE
seconds between them, and the page faults of some children until their answer.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections import deque

from msgpack import packb, unpackb

import pipe_runtime.main  # noqa: F401  # for the memory that it takes

from .bare_frames import INVOKE, LENGTHS, RESULT, frame
from .case import ANSWER, CODE_DIR, EVENT

AHEAD = 8
"""The number of children that stand by, about as many as with pipe-init."""

READ_SIZE = 65536


class Fork:
    """A child that waits for its request.

    Attributes:
        pid: The child's process id.
        requests: The parent's end of the pipe for requests.
        answers: The parent's end of the pipe for answers.
    """

    def __init__(self) -> None:
        theirs, self.requests = os.pipe()
        self.answers, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.requests)
            serve(theirs, answers)
            os._exit(0)
        os.close(theirs)
        os.close(answers)

    def ask(self) -> bytes:
        """Send the event of all arms and return the answer. Then the child ends."""
        os.write(self.requests, frame(packb((INVOKE, 1, {"request_id": "1"})), EVENT))
        data = os.read(self.answers, READ_SIZE)
        _, head_length = LENGTHS.unpack_from(data)
        unpackb(data[8 : 8 + head_length])
        return data[8 + head_length :]

    def close(self) -> int:
        """Close the pipes and reap the child. Return the number of its page faults."""
        os.close(self.requests)
        os.close(self.answers)
        return os.wait4(self.pid, 0)[2].ru_minflt


def serve(requests: int, answers: int) -> None:
    """Serve one request, after a rehearsal that makes the needed memory pages private to this process."""
    answer(frame(packb((INVOKE, 1, {"request_id": "1"})), EVENT))
    data = os.read(requests, READ_SIZE)
    if data:
        os.write(answers, answer(data))


def answer(data: bytes) -> bytes:
    """Return the frame that answers a frame."""
    from index import handler

    _, head_length = LENGTHS.unpack_from(data)
    unpackb(data[8 : 8 + head_length])
    result = json.dumps(handler(json.loads(data[8 + head_length :]), None)).encode()
    return frame(packb((RESULT, 1, {"content_type": "application/json"})), result)


def main() -> None:
    """Run the command in the module's docstring."""
    count, singles, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    sys.path.insert(0, CODE_DIR)
    if not answer(frame(packb((INVOKE, 1, {})), EVENT)).endswith(ANSWER):
        raise SystemExit("bare_forks: a wrong answer")
    gc.collect()
    gc.freeze()
    ready = deque(Fork() for _ in range(AHEAD))
    faults: list[int] = []

    def one() -> int:
        fork = ready.popleft()
        begin = time.perf_counter_ns()
        if fork.ask() != ANSWER:
            raise SystemExit("bare_forks: a wrong answer")
        took = time.perf_counter_ns() - begin
        ready.append(Fork())
        faults.append(fork.close())
        return took

    begin = time.perf_counter()
    for _ in range(count):
        one()
    per_second = count / (time.perf_counter() - begin)
    single = []
    for _ in range(singles):
        time.sleep(pause)
        single.append(one())
    while ready:
        os.kill(ready[0].pid, signal.SIGKILL)  # closing its pipe is not enough, because later children hold it open
        ready.popleft().close()
    print(json.dumps({"per_second": per_second, "single_ns": single, "faults": faults[-singles:]}))


if __name__ == "__main__":
    main()
