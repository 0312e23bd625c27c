"""A function that runs into the limit that its event names under `do`."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time

MIB = 2**20
held = []


def handler(event, context):
    release()
    return globals()[event["do"]]()


def release():
    """Release what an earlier request has left."""
    for each in held:
        if isinstance(each, int):
            os.close(each)
    held.clear()


def fine():
    return os.getpid()


def memory():
    while True:
        held.append(b"x" * MIB)


def memory_in_a_child():
    child = subprocess.run([sys.executable, "-S", "-c", "held = []\nwhile True: held.append(b'x' * 2**20)"])
    raise LookupError(f"the child has died of {-child.returncode}")


def memory_of_threads():
    while True:
        start_thread()


def processes():
    for _ in range(1000):
        held.append(subprocess.Popen(["sleep", "1000"]))


def processes_chained():
    try:
        processes()
    except OSError as error:
        raise LookupError("no worker could be started") from error


def bomb():
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.001)


def threads():
    for _ in range(1000):
        start_thread()


def start_thread():
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def would_block():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.read(reader, 1)


def cpu():
    while True:
        sum(range(1000))


def cpu_undeterred():
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    cpu()


def cpu_signal_only():
    os.kill(os.getpid(), signal.SIGXCPU)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def killed_near_the_cpu_limit():
    while time.process_time() < 0.7:
        pass
    killed()


def open_files():
    for _ in range(10000):
        held.append(os.open("/", os.O_RDONLY))


def file_size():
    with open("large", "wb", buffering=0) as file:
        for _ in range(64):
            file.write(b"x" * MIB)


def file_size_by_signal():
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    file_size()


def output():
    return "x" * (3 * MIB)


def output_in_pieces():
    for _ in range(64):
        yield "x" * MIB


def output_for_ever():
    while True:
        try:
            yield "x" * 1024
        except GeneratorExit:
            time.sleep(1000)


def log():
    for _ in range(100):
        print("x" * 1024)
    return "logged"


def hangs():
    time.sleep(1000)


def limit_of_others():
    """Reach a limit that the function itself has set."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
    open_files()
