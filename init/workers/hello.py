"""Compose HELLO, the first frame to a worker, from what is known of the function.

It must not know processes. docs/protocol.md says what each field means.
"""

from __future__ import annotations

from pipe_runtime.wire.connection import STREAM_BYTES
from pipe_runtime.wire.frames import FrameWriter
from pipe_runtime.wire.messages import HELLO, VERSION

from ..model import REQUEST, TEMPLATE, Function
from .launch import DUMP_FD, DUMP_SIGNAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def worker_hello(function: Function, several: bool = False) -> dict[str, Any]:
    """Return the metadata of HELLO to a worker. docs/protocol.md says what each field means.

    Args:
        function: The function that the worker serves.
        several: Whether the function may have several workers at a time.

    Raises:
        LocalProtocolError: The function's configuration does not fit into a frame's head.
    """
    hello: dict[str, Any] = {
        "versions": [VERSION],
        "software": "pipe-init",
        "dump_fd": DUMP_FD,
        "dump_signal": int(DUMP_SIGNAL),
        "spin_us": function.spin_us,
        "stream_bytes": STREAM_BYTES,
        **function.hello,
    }
    if function.start_method == TEMPLATE:
        hello.update(function.confinement.per_process())
        if several:
            hello["adopts_orphans"] = True  # so that the init can tell which worker has left an orphan
    if function.isolation == REQUEST:
        hello["rehearse"] = True
    FrameWriter().encode(HELLO, 0, hello, b"")
    return hello
