"""A function that ends its process, in the way that its event names."""

import ctypes
import os
import resource
import signal
import sys
import threading


def leaves():
    os._exit(7)


def leaves_well():
    os._exit(0)


def leaves_with_255():
    os._exit(-1)


def exits_in_thread():
    threading.Thread(target=os._exit, args=(8,)).start()
    while True:
        signal.pause()


def segfault():
    ctypes.string_at(8)  # <- segfault


def aborts():
    os.abort()  # <- aborts


def kills():
    os.kill(os.getpid(), signal.SIGKILL)


def terminates():
    os.kill(os.getpid(), signal.SIGTERM)


def becomes_another():
    os.execv("/bin/sh", ["sh", "-c", "exit 5"])


def recurses_in_c():
    again = ctypes.CFUNCTYPE(None)(lambda: again())  # <- recurses_in_c
    sys.setrecursionlimit(10**9)
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 19, 1 << 19))  # newer Pythons count calls in C up to 8 MiB of stack
    again()


def exhausts_memory():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    while True:
        block = libc.malloc(1 << 20)
        libc.memset(block, 1, 1 << 20)  # <- exhausts_memory


def allocates():
    return len(bytearray(1 << 30))  # <- allocates


def handler(event, context):
    return globals()[event["fault"]]() if "fault" in event else event
