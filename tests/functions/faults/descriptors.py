"""A function that misuses the descriptors of its process, as its event says."""

import fcntl
import os
import struct

import msgpack

LINE = b"x" * 1023 + b"\n"


def peak_of_init():
    """Return the highest resident memory of pipe-init so far in KiB (VmHWM of proc(5))."""
    while True:
        try:
            with open(f"/proc/{os.getppid()}/status", encoding="ascii") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
        except (OSError, StopIteration):
            continue  # the process that forked this one has just ended: look at the new parent


def pipes():
    """Return the descriptors above 2 that are pipes."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                found.append(int(name))
        except FileNotFoundError:
            continue
    return found


def write_to_all(data):
    for descriptor in pipes():
        try:
            os.write(descriptor, data)
        except OSError:
            continue


def frame(kind, id, metadata, payload=b""):
    head = msgpack.packb([kind, id, metadata])
    return struct.pack(">II", 4 + len(head) + len(payload), len(head)) + head + payload


def closes_all():
    os.closerange(3, 256)
    return "closed"


def garbage():
    write_to_all(b"Hello, I am a banner of some library\n" * 10)
    return "written"


def forged_result():
    write_to_all(frame(4, 4711, {"content_type": "application/json"}, b'"forged"'))
    return "written"


def forged_twice():
    write_to_all(frame(4, 2, {"content_type": "application/json"}, b'"forged"') * 2)
    while True:
        os.read(0, 1) or os.getppid()


def four_gigabytes():
    write_to_all(b"\xff\xff\xff\xff\x00\x00\x00\x10" + b"x" * 100)
    return "written"


def depth_bomb():
    head = b"\x93\x04\x01" + b"\x81\xa1a" * 5000 + b"\xc0"
    write_to_all(struct.pack(">II", 4 + len(head), len(head)) + head)
    return "written"


def object_bomb():
    head = b"\xdd\x00\x00\xea\x60" + b"\x80" * 60_000
    write_to_all(struct.pack(">II", 4 + len(head), len(head)) + head)
    return "written"


def half_a_frame():
    write_to_all(frame(4, 1, {"content_type": "application/json"}, b"1" * 100)[:50])
    os._exit(6)


def nonblocking():
    for descriptor in (0, 1, 2, *pipes()):
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_NONBLOCK)
    return "x" * 1_000_000


def closes_streams():
    os.closerange(0, 3)
    return "closed"


def floods_streams():
    for _ in range(50 * 1024):
        print("y" * 1023)
    for descriptor in (1, 2):
        for _ in range(25 * 1024):
            os.write(descriptor, LINE)
    return peak_of_init()


def endless_line():
    piece = b"z" * 65536
    for _ in range(800):
        os.write(2, piece)
    print("z" * 50_000_000, end="")
    return peak_of_init()


def handler(event, context):
    return globals()[event["fault"]]() if "fault" in event else event
