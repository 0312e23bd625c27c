"""Tests of the function's `logging` in a real runtime: the root logger's handler, and the function's own settings."""

from __future__ import annotations

import re
from importlib import util
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from pipe_testing import tools
from pipe_testing.bodies import RECORD, logs
from pipe_testing.runtime import RuntimeProcess


def test_logging_without_configuration(tmp_path: Path) -> None:
    body = """
        import logging
        logging.debug("hidden")
        logging.info("info")
        logging.getLogger("some.name").warning("two\\nlines")
        logging.getLogger().error("%s", "\\udc80")
        logging.addLevelName(35, "ÄRGER" * 100)
        logging.log(35, "odd")
    """
    runtime = logs(tmp_path, body)
    assert [line.metadata["stream"] for line in runtime.lines] == ["log"] * 4
    assert [line.metadata["level"] for line in runtime.lines][:3] == ["INFO", "WARNING", "ERROR"]
    expected = [("INFO", "info"), ("WARNING", "two\nlines"), ("ERROR", r"\\udc80"), ("(?:ÄRGER)+", "odd")]
    for text, (level, message) in zip(runtime.logged(), expected, strict=True):
        assert re.fullmatch(RECORD % (level, message), text), text


def test_an_exception_is_one_record(tmp_path: Path) -> None:
    body = """
        import logging
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("failed")
    """
    [text] = logs(tmp_path, body).logged()
    assert "failed\nTraceback (most recent call last):" in text
    assert text.endswith("ZeroDivisionError: division by zero")


def test_a_record_that_cannot_be_formatted_is_reported(tmp_path: Path) -> None:
    runtime = logs(tmp_path, 'import logging\nlogging.info("%d", "x")\n')
    assert runtime.logged("log") == []
    assert "--- Logging error ---" in runtime.logged("stderr")


CONFIG = """
        CONFIG = {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"f": {"format": "<%(message)s>"}},
            "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
        }
        ROOT = {"handlers": ["h"], "level": "INFO"}
        INI = '''
[loggers]
keys=root
[handlers]
keys=h
[formatters]
keys=f
[logger_root]
handlers=h
level=INFO
[handler_h]
class=StreamHandler
args=()
formatter=f
[formatter_f]
format=<%(message)s>
'''
"""


@pytest.mark.parametrize(
    ("configure", "printed", "ours"),
    [
        ("pass", [], ["i", "w"]),
        ("logging.basicConfig()", ["INFO:root:i", "WARNING:named:w"], []),
        ("logging.basicConfig(format='%(message)s!')", ["i!", "w!"], []),
        ("logging.basicConfig(level='WARNING')", ["WARNING:named:w"], []),
        ("logging.basicConfig(level=10, stream=sys.stdout)", ["DEBUG:root:d", "INFO:root:i", "WARNING:named:w"], []),
        ("logging.info('first'); logging.basicConfig(format='%(message)s!')", ["i!", "w!"], ["first"]),
        ("logging.basicConfig(); logging.basicConfig(format='never')", ["INFO:root:i", "WARNING:named:w"], []),
        ("logging.basicConfig(force=True, format='%(message)s!')", ["i!", "w!"], []),
        # A second handler on the root logger prints again what ours has printed, as on Lambda.
        ("logging.getLogger().addHandler(logging.StreamHandler())", ["i", "w"], ["i", "w"]),
        ("logging.getLogger().addHandler(logging.StreamHandler()); logging.basicConfig()", ["i", "w"], []),
        ("logging.getLogger('named').addHandler(logging.StreamHandler())", ["w"], ["i", "w"]),
        ("logging.getLogger('named').propagate = False", ["w"], ["i"]),
        ("dictConfig(CONFIG | {'root': ROOT})", ["<i>", "<w>"], []),
        ("dictConfig(CONFIG | {'loggers': {'': ROOT}})", ["<i>", "<w>"], []),
        ("dictConfig(CONFIG | {'loggers': {'named': {'handlers': ['h']}}})", ["<w>"], ["i", "w"]),
        ("fileConfig(io.StringIO(INI))", ["<i>", "<w>"], []),
        # Without any handler, logging's own functions call basicConfig(), as in a script.
        ("logging.getLogger().handlers.clear()", ["INFO:root:i", "WARNING:named:w"], []),
        ("logging.root.removeHandler(logging.root.handlers[0])", ["INFO:root:i", "WARNING:named:w"], []),
        ("logging.root.handlers = []", ["INFO:root:i", "WARNING:named:w"], []),
        ("logging.root.handlers = []; logging.getLogger().info('lost'); logging.root.warning('last')",
         ["last", "INFO:root:i", "WARNING:named:w"], []),
        # Libraries and examples ask this first.
        ("logging.root.handlers or logging.basicConfig()", [], ["i", "w"]),
        ("logging.getLogger().hasHandlers() or logging.basicConfig()", [], ["i", "w"]),
        ("logging.root.handlers[0].setLevel('WARNING')", [], ["w"]),
        ("logging.root.handlers[0].addFilter(lambda record: record.name == 'named')", [], ["w"]),
        ("logging.shutdown()", [], ["i", "w"]),
        ("import importlib; importlib.reload(logging); logging.basicConfig(level=20)",
         ["INFO:root:i", "WARNING:named:w"], []),
        ("logging.disable(logging.INFO)", [], ["w"]),
    ],
)  # fmt: skip
def test_a_configuration_of_the_functions_own_is_what_counts(
    tmp_path: Path, configure: str, printed: list[str], ours: list[str]
) -> None:
    body = f"""
        import io, logging
        from logging.config import dictConfig, fileConfig
        {CONFIG}
        {configure}
        logging.debug("d")
        logging.info("i")
        logging.getLogger("named").warning("w")
    """
    runtime = logs(tmp_path, body)
    assert [*runtime.logged("stdout"), *runtime.logged("stderr")] == printed
    assert [text.rpartition("\t")[2] for text in runtime.logged("log")] == ours


FORMATS = [
    ("logging.Formatter('%(levelname)s|%(message)s')", "INFO|hello"),
    ("logging.Formatter('%(aws_request_id)s|%(message)s')", "r-1|hello"),
    ("logging.Formatter('{aws_request_id} {message}', style='{')", "r-1 hello"),
    ("logging.Formatter('%(message)s\\n')", "hello"),  # on Lambda a format ends with a line break of its own
    ("logging.Formatter('%(message)s\\n\\n')", "hello\n"),
    ("None", "hello"),
    ("Json()", '{"said": "hello"}'),
]


@pytest.mark.parametrize(("formatter", "expected"), FORMATS)
def test_another_formatter_for_our_handler(tmp_path: Path, formatter: str, expected: str) -> None:
    body = f"""
        import json, logging
        class Json(logging.Formatter):
            def format(self, record):
                return json.dumps({{"said": record.getMessage()}})
        root = logging.getLogger()
        root.handlers[0].setFormatter({formatter})
        root.setLevel("INFO")
        logging.basicConfig(format="a library's: %(message)s")  # as on Lambda, it changes nothing now
        logging.info("hello")
    """
    runtime = logs(tmp_path, body)
    assert [(line.metadata["stream"], line.payload.decode()) for line in runtime.lines] == [("log", expected)]


def test_what_code_for_lambda_looks_for(tmp_path: Path) -> None:
    body = """
        import copy, logging, pickle
        [handler] = logging.getLogger().handlers
        assert handler.__class__.__name__ == "LambdaLoggerHandler"
        assert type(handler.formatter) is logging.Formatter
        assert not isinstance(handler, logging.StreamHandler) and not hasattr(handler, "stream")
        assert handler.level == logging.NOTSET and len(handler.filters) == 1
        assert logging.lastResort.__class__.__name__ == "_StderrHandler"
        assert logging.basicConfig.__name__ == "basicConfig"
        assert context.logger is logging.getLogger() is logging.getLogger("some.name").parent
        assert pickle.loads(pickle.dumps(logging.getLogger("some.name"))) is logging.getLogger("some.name")
        assert copy.deepcopy(logging.getLogger()) is logging.getLogger()
        repr(handler)

        # Another handler may take our formatter, on a logger that ours hears later.
        other = logging.StreamHandler(sys.stdout)
        other.setFormatter(handler.formatter)
        logging.getLogger("early").addHandler(other)
        logging.getLogger("early").info("first")

        # Powertools' and others' way: the handler moves to a logger of their own.
        logging.getLogger().removeHandler(handler)
        mine = logging.getLogger("mine")
        mine.propagate = False
        mine.addHandler(handler)
        mine.info("second")
    """
    runtime = logs(tmp_path, body)
    assert [(line.metadata["stream"], line.payload.decode().rpartition("\t")[2]) for line in runtime.lines] == [
        ("stdout", "first"),
        ("log", "first"),
        ("log", "second"),
    ]


@pytest.mark.parametrize(
    "wrong", ["level='LOUD'", "colour='red'", "stream=sys.stdout, filename='x'", "filename='/a/b'"]
)
def test_a_wrong_configuration_changes_nothing(tmp_path: Path, wrong: str) -> None:
    body = f"""
        import logging
        try:
            logging.basicConfig({wrong})
        except (OSError, ValueError) as error:
            logging.info("%s", type(error).__name__)
    """
    [line] = logs(tmp_path, body).lines
    expected = "INFO:root:ValueError" if "level" in wrong or "colour" in wrong else "Error"
    assert line.payload.decode().endswith(expected) and (line.metadata["stream"] == "log") == (expected == "Error")


def test_structlog(tmp_path: Path) -> None:
    tools.require(util.find_spec("structlog"), "needs the package structlog")
    body = """
        import logging, structlog
        structlog.get_logger().info("printed", a=1)
        structlog.configure(
            processors=[structlog.stdlib.add_log_level, structlog.processors.JSONRenderer()],
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
        structlog.get_logger().info("logged", b=2)
    """
    printed, logged = logs(tmp_path, body).lines
    assert printed.metadata["stream"] == "stdout" and b"printed" in printed.payload
    assert re.fullmatch(RECORD % ("INFO", '{"b": 2, "event": "logged", "level": "info"}'), logged.payload.decode())


# No calls of the runtime's own

SHOWN = """
    import logging, threading
    {configure}
    def inner():
        {log}
    inner()
"""


@pytest.mark.parametrize("configure", ["pass", "logging.basicConfig()"])
@pytest.mark.parametrize("define", ["def", "async def"])
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize(
    "log",
    [
        "logging.info('x', stack_info=True)",
        "logging.info('%d', 'x')",
        "logging.root.handlers[0].handleError(logging.makeLogRecord({}))",
    ],
)
def test_no_calls_of_ours_are_shown(tmp_path: Path, configure: str, define: str, concurrency: int, log: str) -> None:
    if "handleError" in log:
        log = f"try: 1 / 0\n        except ZeroDivisionError: {log}"
    source = f"import os, sys\n{define} handler(event, context):{SHOWN.format(configure=configure, log=log)}"
    with RuntimeProcess(tmp_path, source) as runtime:
        runtime.start(concurrency=concurrency)
        runtime.call()
        text = "\n".join(runtime.logged())
    files = re.findall(r'File "([^"]+)", line \d+, in (\w+)', text)
    assert "pipe_runtime" not in text and "asyncio" not in text and "threading" not in text, text
    index = str(tmp_path / "index.py")
    assert (index, "handler") in files and (index, "inner") in files
    stack = files[[name for _, name in files].index("handler") :]
    assert stack == [(index, "handler"), (index, "inner")], text
    assert text.count("Logging error") == ("stack_info" not in log)


def test_a_forked_child_that_fails_shows_no_calls_of_ours(tmp_path: Path) -> None:
    body = """
        pid = os.fork()
        if not pid:
            raise RuntimeError("in the child")
        os.waitpid(pid, 0)
    """
    log = logs(tmp_path, body).log.decode()
    assert log.startswith("Traceback (most recent call last):\n") and log.endswith("RuntimeError: in the child\n")
    assert re.findall(r"in (\w+)\n", log) == ["handler"]


def test_tenant_and_request_are_in_each_record(tmp_path: Path) -> None:
    source = """
    import logging
    logging.getLogger().handlers[0].setFormatter(logging.Formatter("%(aws_request_id)s %(tenant_id)s %(message)s"))
    logging.info("loading")
    def handler(event, context):
        logging.info("running")
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start()
        assert runtime.logged("log") == [" None loading"]
        runtime.call(tenant_id="blue")
        assert runtime.logged("log") == ["r-1 blue running"]
        runtime.call()
        assert runtime.logged("log") == ["r-2 None running"]


def test_context_log_and_logger(tmp_path: Path) -> None:
    runtime = logs(tmp_path, 'context.log("by hand\\n")\ncontext.logger.info("by logger")\n')
    assert runtime.logged("log")[0] == "by hand"
    assert re.fullmatch(RECORD % ("INFO", "by logger"), runtime.logged("log")[1])


def test_a_logging_module_of_the_functions_own(tmp_path: Path) -> None:
    (tmp_path / "logging.py").write_text("def info(text):\n    print('mine', text)\n")
    assert logs(tmp_path, 'import logging\nlogging.info("x")\n').logged() == ["mine x"]


def test_function_that_replaces_the_import_systems_list(tmp_path: Path) -> None:
    body = """
        sys.meta_path = [finder for finder in sys.meta_path]
        import logging
        logging.info("x")
    """
    assert re.fullmatch(RECORD % ("INFO", "x"), logs(tmp_path, body).logged()[0])


@pytest.mark.parametrize(
    ("configure", "stream"),
    [("pass", "log"), ("logging.basicConfig(format='%(message)s')", "stderr")],
)
def test_captured_warnings(tmp_path: Path, configure: str, stream: str) -> None:
    body = f"""
        import logging, warnings
        logging.captureWarnings(True)
        {configure}
        warnings.warn("careful")
    """
    runtime = logs(tmp_path, body)
    assert [line.metadata["stream"] for line in runtime.lines if b"careful" in line.payload] == [stream]


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        ({}, ["info", "error"]),
        ({"log_level": "DEBUG"}, ["debug", "info", "error"]),
        ({"environment": {"AWS_LAMBDA_LOG_LEVEL": "ERROR"}}, ["error"]),
        ({"environment": {"ALIYUN_FC_LOG_LEVEL": "error"}, "log_level": "TRACE"}, ["debug", "info", "error"]),
    ],
)
def test_the_root_level(tmp_path: Path, hello: dict[str, Any], expected: list[str]) -> None:
    source = """
    import logging
    def handler(event, context):
        for level in "debug", "info", "error":
            getattr(logging, level)(level)
    """
    with RuntimeProcess(tmp_path, dedent(source)) as runtime:
        runtime.start(**hello)
        runtime.call()
        assert [text.rpartition("\t")[2] for text in runtime.logged()] == expected


def test_django_logs_a_failure_without_a_configuration(tmp_path: Path) -> None:
    tools.require(util.find_spec("django"), "needs the package django")
    body = """
        import logging
        from logging.config import dictConfig
        from django.conf import settings
        from django.utils.log import DEFAULT_LOGGING
        settings.configure(DEBUG=False)
        dictConfig(DEFAULT_LOGGING)
        logging.getLogger("django.request").error("Internal Server Error")
    """
    [line] = [line for line in logs(tmp_path, body).lines if line.metadata["stream"] == "log"]
    assert re.fullmatch(RECORD % ("ERROR", "Internal Server Error"), line.payload.decode())


LOCKS = """
import sys, threading, time
from pipe_runtime import namespace

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "logging":
            importing.set()
            held.wait(300)  # until the other thread has the runtime's lock, and waits for this import
            time.sleep(0.2)

importing, held = threading.Event(), threading.Event()

def in_the_runtime():
    importing.wait(300)
    with namespace.own_library:
        held.set()
        import logging

def handler(event, context):
    for finder in sys.meta_path:
        if type(finder).__name__ == "LoggingHook":
            sys.meta_path.insert(sys.meta_path.index(finder) + 1, Slow())
            break
    other = threading.Thread(target=in_the_runtime)
    other.start()
    import logging
    other.join()
    logging.info("imported")
"""


def test_two_threads_that_import_logging_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with RuntimeProcess(tmp_path, LOCKS) as runtime:
        runtime.start()
        runtime.call()
        assert re.fullmatch(RECORD % ("INFO", "imported"), runtime.logged("log")[0])
