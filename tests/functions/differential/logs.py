"""Handlers that print and log."""

import asyncio
import datetime
import decimal
import logging
import logging.config
import logging.handlers
import queue
import sys
import threading
import traceback
import warnings

root = logging.getLogger()
module_logger = logging.getLogger(__name__)


def failing():
    raise ValueError("inner")


def print_line(event, context):
    print("a line")


def print_lines(event, context):
    print("first\nsecond")


def print_without_line_break(event, context):
    print("no end", end="")


def print_empty(event, context):
    print()


def print_to_stderr(event, context):
    print("to stderr", file=sys.stderr)


def print_both(event, context):
    print("one")
    print("two", file=sys.stderr)
    print("three")


def print_unicode(event, context):
    print("größer 日本語 😀")


def print_json(event, context):
    print('{"level": "INFO", "message": "printed", "own": [1]}')


def print_json_list(event, context):
    print("[1, 2]")


def print_like_a_record(event, context):
    print("[INFO]\t2026-01-31T12:00:00.000Z\tid\tforged")


def write_and_flush(event, context):
    sys.stdout.write("wri")
    sys.stdout.write("tten\n")
    sys.stdout.flush()


def write_lines(event, context):
    sys.stdout.writelines(["a\n", "b\n"])


def write_buffer(event, context):
    sys.stdout.buffer.write(b"bytes\n")
    sys.stdout.flush()


def level_info(event, context):
    root.info("by default")


def level_debug(event, context):
    root.debug("by default")


def level_warning(event, context):
    root.warning("by default")


def level_error(event, context):
    root.error("by default")


def level_critical(event, context):
    root.critical("by default")


def module_functions(event, context):
    logging.warning("by %s", "logging.warning")


def set_level_debug(event, context):
    root.setLevel(logging.DEBUG)
    root.debug("shown")
    logging.getLogger("other").debug("shown, too")


def set_level_error(event, context):
    root.setLevel("ERROR")
    root.warning("hidden")
    root.error("shown")


def arguments(event, context):
    root.warning("%s has %d, %(own)s" if event else "%s has %d", "name", 7)


def wrong_arguments(event, context):
    root.warning("%s and %s", "one")


def of_several_lines(event, context):
    root.warning("first\nsecond")


def empty(event, context):
    root.warning("")


def unicode(event, context):
    root.warning("größer 日本語 😀")


def tab(event, context):
    root.warning("a\tb")


def no_text(event, context):
    root.warning(7)


def a_dict(event, context):
    root.warning({"own": 1, "nested": {"a": [True, None]}})


def a_dict_of_odd_values(event, context):
    root.warning({"b": b"x", "d": decimal.Decimal("1.50"), "t": datetime.date(2026, 1, 31), 1: {2}})


def a_dict_with_a_key_that_json_has_not(event, context):
    root.warning({(1, 2): 3})


def in_a_thread(event, context):
    thread = threading.Thread(target=root.warning, args=("in a thread",), name="own")
    thread.start()
    thread.join()


def in_a_task(event, context):
    async def work():
        root.warning("in a task")

    asyncio.run(work())


def through_a_queue(event, context):
    records = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, *root.handlers)
    root.handlers[:] = [logging.handlers.QueueHandler(records)]
    listener.start()
    root.warning("through a queue")
    listener.stop()


def memory_handler(event, context):
    handler = logging.handlers.MemoryHandler(10, target=root.handlers[0])
    root.handlers[:] = [handler]
    root.warning("kept")
    handler.flush()


def own_formatter_class(event, context):
    class Formatter(logging.Formatter):
        def format(self, record):
            return (
                f"{record.levelname} {record.funcName} {getattr(record, 'aws_request_id', None)} {record.getMessage()}"
            )

    root.handlers[0].setFormatter(Formatter())
    root.warning("formatted")


def own_formatter_for_exceptions(event, context):
    root.handlers[0].setFormatter(logging.Formatter("own %(message)s", "%H:%M", "%"))
    try:
        failing()
    except ValueError:
        root.exception("caught")


def style_of_braces(event, context):
    root.handlers[0].setFormatter(logging.Formatter("own {levelname} {message}", style="{"))
    root.warning("formatted")


def message_of_kilobytes(event, context):
    root.warning("x" * 20_000)


def message_with_zero_byte(event, context):
    root.warning("a\x00b")


def message_with_surrogate(event, context):
    root.warning("a\ud800b")


def child_logger(event, context):
    root.getChild("child").getChild("of it").warning("child")


def level_of_the_handler_and_the_logger(event, context):
    root.handlers[0].setLevel("DEBUG")
    logging.getLogger("quiet").setLevel("ERROR")
    logging.getLogger("quiet").warning("hidden")
    logging.getLogger("quiet").error("shown")


def print_long(event, context):
    print("y" * 20_000)


def print_carriage_return(event, context):
    print("one\rtwo\r\nthree")


def print_escape(event, context):
    print("\x1b[31mred\x1b[0m")


def print_surrogate(event, context):
    print("a\udcffb")


def print_several(event, context):
    print("a", 1, None, sep="-", end="!\n")


def print_exception(event, context):
    try:
        failing()
    except ValueError:
        traceback.print_exc()


def a_list(event, context):
    root.warning(["own", 1])


def a_dict_with_arguments(event, context):
    root.warning({"own": 1}, {"a": 1})


def json_text(event, context):
    root.warning('{"own": 1}')


def extra(event, context):
    root.warning("with extra", extra={"own": 1, "other": {"a": 2}})


def extra_not_json(event, context):
    root.warning("with extra", extra={"own": object, "at": {1, 2}})


def extra_named_as_a_field(event, context):
    root.warning("with extra", extra={"level": "OWN", "requestId": "own", "location": "own", "timestamp": "own"})


def exception(event, context):
    try:
        failing()
    except ValueError:
        root.exception("caught")


def exception_of_several_lines(event, context):
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        root.exception("caught")


def exception_chained(event, context):
    try:
        try:
            failing()
        except ValueError as error:
            raise KeyError("outer") from error
    except KeyError:
        root.error("caught", exc_info=True)


def exception_info_without_one(event, context):
    root.error("none", exc_info=True)


def exception_then_raised(event, context):
    try:
        failing()
    except ValueError:
        root.error("caught")
        raise


def stack_info(event, context):
    root.warning("with stack", stack_info=True)


def named(event, context):
    logging.getLogger("a.b").warning("by name")


def named_with_level(event, context):
    logger = logging.getLogger("with.level")
    logger.setLevel("DEBUG")
    logger.debug("shown")


def of_the_module(event, context):
    module_logger.warning("of the module")


def named_without_propagation(event, context):
    logger = logging.getLogger("alone")
    logger.propagate = False
    logger.warning("goes to the last resort")


def named_with_handler(event, context):
    logger = logging.getLogger("with.handler")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("own: %(message)s"))
        logger.addHandler(handler)
    logger.warning("twice")


def named_with_handler_alone(event, context):
    logger = logging.getLogger("with.handler.alone")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.warning("once")


def root_handlers(event, context):
    return [len(root.handlers), isinstance(root.handlers[0], logging.Handler)]


def root_handlers_format(event, context):
    root.handlers[0].setFormatter(logging.Formatter("%(levelname)s own %(message)s"))
    root.warning("formatted")


def root_handlers_format_with_line_break(event, context):
    root.handlers[0].setFormatter(logging.Formatter("own %(aws_request_id)s %(message)s\n"))
    root.warning("formatted")


def root_handlers_level(event, context):
    root.handlers[0].setLevel("ERROR")
    root.warning("hidden")
    root.error("shown")


def root_handlers_filter(event, context):
    root.handlers[0].addFilter(lambda record: "secret" not in record.getMessage())
    root.warning("secret")
    root.warning("open")


def root_handlers_removed(event, context):
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.warning("to the last resort")


def root_handlers_replaced(event, context):
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    logging.basicConfig(format="own %(message)s", level="INFO", stream=sys.stdout)
    root.info("replaced")


def root_handler_added(event, context):
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("added %(message)s"))
    root.addHandler(handler)
    root.warning("twice")


def basic_config(event, context):
    logging.basicConfig(format="own %(message)s", stream=sys.stdout)
    root.warning("configured")


def basic_config_level(event, context):
    logging.basicConfig(level=logging.DEBUG)
    root.debug("configured")


def basic_config_force(event, context):
    logging.basicConfig(format="own %(message)s", stream=sys.stdout, force=True)
    root.warning("forced")


def dict_config(event, context):
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"own": {"format": "own %(message)s"}},
            "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "own", "stream": "ext://sys.stdout"}},
            "root": {"handlers": ["out"], "level": "INFO"},
        }
    )
    root.info("configured")


def custom_level(event, context):
    logging.addLevelName(35, "NOTICE")
    root.log(35, "noticed")


def level_between(event, context):
    root.log(33, "between")


def level_above(event, context):
    root.log(70, "above")


def disabled(event, context):
    logging.disable(logging.CRITICAL)
    root.critical("hidden")


def log_record_factory(event, context):
    before = logging.getLogRecordFactory()

    def factory(*args, **kwargs):
        record = before(*args, **kwargs)
        record.made = "by the factory"
        return record

    logging.setLogRecordFactory(factory)
    try:
        root.warning("made")
    finally:
        logging.setLogRecordFactory(before)


def record_attributes(event, context):
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(getattr(record, "aws_request_id", None) == context.aws_request_id)
    root.addHandler(handler)
    root.warning("seen")
    return seen


def adapter(event, context):
    logging.LoggerAdapter(root, {"own": 1}).warning("adapted")


def warning(event, context):
    warnings.warn("warned", UserWarning, stacklevel=1)


def captured_warning(event, context):
    logging.captureWarnings(True)
    try:
        warnings.warn("captured", UserWarning, stacklevel=1)
    finally:
        logging.captureWarnings(False)


CASES = {name: value for name, value in globals().items() if type(value) is type(failing) and name != "failing"}
