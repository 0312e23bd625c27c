"""Serve events to awslambdaric, the client inside AWS Lambda's Python runtime, over HTTP on the loopback interface.

The server is this process. It has one raw socket and one thread, and makes its answers before it needs them. So the
program measures the client and HTTP, not a web server. The client keeps its connection alive, as it does on Lambda.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import subprocess
import sys
import time

from .case import CODE_DIR, EVENT, HANDLER, TIMEOUT, request_ids
from .driver import serve

READ_SIZE = 64 * 1024
START_LIMIT = 30.0
"""The seconds that the client may take until it connects."""

NEXT = b"GET /2018-06-01/runtime/invocation/next "
ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status": "OK"}'
EVENT_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: %d\r\n"
    b"Lambda-Runtime-Aws-Request-Id: %b\r\n"
    b"Lambda-Runtime-Deadline-Ms: %d\r\n"
    b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:hello\r\n"
    b"\r\n"
)


class LambdaClient:
    """The runtime API for one client.

    Args:
        python: The interpreter that has awslambdaric.
        spin: The microseconds for which the server polls for bytes before it sleeps.
    """

    def __init__(self, python: str, spin: int) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(START_LIMIT)
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment |= {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{listener.getsockname()[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": "hello",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        }
        self.process = subprocess.Popen(
            [python, "-m", "awslambdaric", HANDLER],
            cwd=CODE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            self.socket, _ = listener.accept()
        finally:
            listener.close()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(not spin)
        self.limit = spin * 1000
        self.waiting = select.poll()
        self.waiting.register(self.socket, select.POLLIN)
        self.ids = request_ids()
        self.expect_next()

    def exchange(self) -> bytes:
        """Send the event and return the answer. The client is already waiting in its GET."""
        id = next(self.ids).encode()
        deadline = int((time.time() + TIMEOUT) * 1000)
        self.socket.sendall(EVENT_HEAD % (len(EVENT), id, deadline) + EVENT)
        head, body = self.request()
        if not head.startswith(b"POST /2018-06-01/runtime/invocation/" + id + b"/response "):
            raise RuntimeError(f"the client answered with {head[:200]!r}")
        return body

    def settle(self) -> None:
        """Acknowledge the response and wait for the next GET. This other half of the fetch loop is not timed."""
        self.socket.sendall(ACCEPTED)
        self.expect_next()

    def close(self) -> None:
        """End the client, which would otherwise fetch for ever."""
        self.process.terminate()
        self.process.wait()
        self.socket.close()

    def expect_next(self) -> None:
        """Read the next request. Raise RuntimeError if it is not a GET of the next event."""
        head, _ = self.request()
        if not head.startswith(NEXT):
            raise RuntimeError(f"the client asked for {head[:200]!r}")

    def request(self) -> tuple[bytes, bytes]:
        """Return the head and the body of the next request."""
        data = self.receive()
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self.receive()
        head, body = data[:end], data[end + 4 :]
        if head.startswith(b"POST"):
            _, _, rest = head.lower().partition(b"\r\ncontent-length:")
            length = int(rest.partition(b"\r\n")[0])
            while len(body) < length:
                body += self.receive()
        return head, body

    def receive(self) -> bytes:
        """Return the next bytes. Raise RuntimeError if the client has closed the connection."""
        end = time.perf_counter_ns() + self.limit if self.limit else 0
        while True:
            try:
                data = self.socket.recv(READ_SIZE)
            except BlockingIOError:
                if time.perf_counter_ns() > end:
                    self.waiting.poll()
                continue
            if not data:
                raise RuntimeError("awslambdaric has closed its connection")
            return data


def main() -> None:
    """Run `python -m arms.lambda_client [--python PATH] [--spin MICROSECONDS]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--spin", type=int, default=0)
    options = parser.parse_args()
    serve(LambdaClient(options.python, options.spin))


if __name__ == "__main__":
    main()
