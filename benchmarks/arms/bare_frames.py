"""Exchange the same frames, msgpack heads and JSON as pipe-init, in one flat loop on each side, and nothing else.

This arm keeps none of pipe-init's promises. It does not check its input, or the order of frames. It has no deadline,
signals, logs or context, and measures no CPU time or memory. The time that pipe-init takes beyond this arm is the cost
of its promises. No Python code that uses this protocol can be much faster.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import time
from collections.abc import Callable

from msgpack import Packer, unpackb

from .case import CODE_DIR, EVENT, TIMEOUT, request_ids
from .driver import serve
from .floor import Floor

INVOKE, RESULT = 3, 4
LENGTHS = struct.Struct(">II")


class BareFrames(Floor):
    """The parent's end. It is a Floor that sends and answers frames instead of bare bytes."""

    def __init__(self, spin: int) -> None:
        super().__init__(spin, answer)
        self.pack = Packer().pack
        self.ids = enumerate(request_ids(), 1)

    def exchange(self) -> bytes:
        """Write one frame and read one frame. Messages this small are never split."""
        number, request_id = next(self.ids)
        metadata = {
            "request_id": request_id,
            "timeout_ms": int(TIMEOUT * 1000),
            "deadline_ms": int((time.time() + TIMEOUT) * 1000),
            "content_type": "application/json",
            "accept": "application/json",
        }
        os.write(self.requests, frame(self.pack((INVOKE, number, metadata)), EVENT))
        data = self.read()
        _, head_length = LENGTHS.unpack_from(data)
        unpackb(data[8 : 8 + head_length])
        return data[8 + head_length :]


def frame(head: bytes, payload: bytes) -> bytes:
    """Return a frame as in docs/protocol.md."""
    return b"".join((LENGTHS.pack(4 + len(head) + len(payload), len(head)), head, payload))


def answer(read: Callable[[], bytes], answers: int) -> None:
    """Call the handler for every frame until the stream ends."""
    sys.path.insert(0, CODE_DIR)
    from index import handler

    pack, clock = Packer().pack, time.perf_counter_ns
    decode, encode = json.JSONDecoder().decode, json.JSONEncoder(ensure_ascii=False).encode
    while data := read():
        _, head_length = LENGTHS.unpack_from(data)
        _, number, _ = unpackb(data[8 : 8 + head_length])
        begun = clock()
        result = encode(handler(decode(str(data[8 + head_length :], "utf-8")), None)).encode()
        metadata = {
            "content_type": "application/json",
            "duration_us": (clock() - begun) // 1000,
            "cpu_us": 0,
            "peak_memory_bytes": 2**24,
        }
        os.write(answers, frame(pack((RESULT, number, metadata)), result))


def main() -> None:
    """Run `python -m arms.bare_frames [--spin MICROSECONDS]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spin", type=int, default=0)
    serve(BareFrames(parser.parse_args().spin))


if __name__ == "__main__":
    main()
