"""Handlers that raise an exception or end their process."""

import asyncio
import builtins
import concurrent.futures
import functools
import json
import multiprocessing
import os
import signal
import socket
import sys


class OwnError(Exception):
    pass


class OwnBase(BaseException):
    pass


class Nested:
    class Error(Exception):
        pass


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Fault(Exception):
    """An exception with the same fields as awslambdaric's own FaultException."""

    msg = "message"
    exception_type = "Runtime.Own"
    trace = None


def outcome(future):
    concurrent.futures.wait([future])  # otherwise the stack depends on which thread was first
    return future.result()


def plain(event, context):
    raise ValueError("bad value")


def without_text(event, context):
    raise ValueError


def of_several_arguments(event, context):
    raise OSError(2, "No such file", "name")


def of_several_lines(event, context):
    raise ValueError("first\nsecond\n  third")


def with_unicode(event, context):
    raise ValueError("größer 😀 \u2028")


def with_surrogate(event, context):
    raise ValueError("a\ud800b")


def with_control(event, context):
    raise ValueError("\x00\x1b[31mred")


def with_bytes(event, context):
    raise ValueError(b"bytes")


def own(event, context):
    raise OwnError({"code": 7})


def own_base(event, context):
    raise OwnBase("base")


def nested_class(event, context):
    raise Nested.Error("nested")


def unprintable(event, context):
    raise Unprintable("secret")


def key_error(event, context):
    return event["missing"]


def attribute_error(event, context):
    return context.missing


def type_error(event, context):
    return event + 1


def zero_division(event, context):
    return 1 / 0


def assertion(event, context):
    assert event == "never", "not equal"


def unicode_error(event, context):
    return b"\xff".decode()


def json_error(event, context):
    return json.loads("{")


def stop_iteration(event, context):
    return next(iter([]))


def generator_exit(event, context):
    raise GeneratorExit("out")


def keyboard_interrupt(event, context):
    raise KeyboardInterrupt


def system_exit(event, context):
    sys.exit()


def system_exit_3(event, context):
    sys.exit(3)


def system_exit_text(event, context):
    sys.exit("a text")


def os_exit(event, context):
    os._exit(5)


def killed(event, context):
    os.kill(os.getpid(), signal.SIGKILL)


def aborted(event, context):
    os.abort()


def recursion(event, context):
    return recursion(event, context)


def memory(event, context):
    return bytearray(2**60)


def deeper(event, context):
    def inner():
        raise ValueError("inner")

    inner()


def long_line(event, context):
    raise ValueError(
        "a line that is longer than others are " + "and longer " * 3
    )  # with a comment after it, which is text


def chained(event, context):
    try:
        plain(event, context)
    except ValueError as error:
        raise KeyError("outer") from error


def in_handling(event, context):
    try:
        plain(event, context)
    except ValueError:
        raise KeyError("outer")  # noqa: B904


def suppressed(event, context):
    try:
        plain(event, context)
    except ValueError:
        raise KeyError("outer") from None


def reraised(event, context):
    try:
        plain(event, context)
    except ValueError:
        raise


def with_note(event, context):
    error = ValueError("noted")
    error.__notes__ = ["a note"]
    raise error


def with_traceback_of_another(event, context):
    try:
        plain(event, context)
    except ValueError as error:
        raise OwnError("moved").with_traceback(error.__traceback__) from None


def in_comprehension(event, context):
    return [1 / n for n in (1, 0)]


def in_executed_code(event, context):
    exec("def f():\n    raise ValueError('executed')\nf()")


def in_asyncio(event, context):
    async def work():
        raise ValueError("awaited")

    asyncio.run(work())


def in_a_file_named_bootstrap(event, context):
    code = compile("raise ValueError('boot')", "/srv/bootstrap.py", "exec")
    exec(code)


def like_a_fault(event, context):
    raise Fault("text")


def of_type_named_exception(event, context):
    raise type("Ünïcode Name", (Exception,), {})("text")


def huge_text(event, context):
    raise ValueError("x" * 100_000)


def group(event, context):
    kind = getattr(builtins, "ExceptionGroup", None)
    raise ValueError("none here") if kind is None else kind("several", [ValueError("one"), KeyError("two")])


def timeout_of_its_own(event, context):
    raise TimeoutError("own")


def connection(event, context):
    socket.create_connection(("127.0.0.1", 1))


def import_error(event, context):
    import no_such_module_at_all  # noqa: F401


def name_error(event, context):
    return no_such_name  # noqa: F821


def unbound(event, context):
    print(later)  # noqa: F821
    later = 1
    return later


def index_error(event, context):
    return [][7]


def overflow(event, context):
    return 2.0**10_000


def not_implemented(event, context):
    raise NotImplementedError


def warning_as_exception(event, context):
    raise UserWarning("raised")


def of_a_string(event, context):
    raise "text"  # noqa: B016


def of_a_builtin_with_slots(event, context):
    raise LookupError("a", "b")


def while_cleaning_up(event, context):
    try:
        raise ValueError("first")
    finally:
        int("second")


def in_a_generator(event, context):
    def items():
        yield 1
        raise ValueError("after one")

    return list(items())


def in_a_decorated_one(event, context):
    @functools.lru_cache
    def cached():
        raise ValueError("cached")

    return cached()


def in_another_thread(event, context):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return outcome(pool.submit(plain, event, context))


def in_another_process(event, context):
    fork = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as pool:
        return outcome(pool.submit(int, "no number"))


def after_printing(event, context):
    print("before")
    raise ValueError("after")


def long_text(event, context):
    raise ValueError("x" * 5000)


def exception_instance_raises_in_repr(event, context):
    class Odd(Exception):
        def __repr__(self):
            raise RuntimeError("no repr")

    raise Odd("text")


CASES = {name: value for name, value in globals().items() if type(value) is type(plain) and name != "outcome"}
