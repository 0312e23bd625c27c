"""Tests that handlers behave the same under pipe-init and under awslambdaric, AWS Lambda's own client.

The handlers are in tests/functions/differential: each entry in a module's CASES is one. docs/lambda.md has a table of
the differences and their reasons. A test fails for a difference that is not in the table. It also fails for an entry in
the table that does not differ.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pipe_testing import lambda_client
from pipe_testing.command import PipeInit

TREE = Path(os.environ["PIPE_INIT_TREE"])
FOLDER = TREE / "tests" / "functions" / "differential"
LOADING = TREE / "tests" / "functions" / "differential_loading"
DOCUMENT = TREE / "docs" / "lambda.md"

pytestmark = [pytest.mark.heavy, pytest.mark.unmeasured]

CLIENT_CONTEXT = {
    "custom": {"a": "b", "n": [1]},
    "env": {"make": "phone"},
    "client": {"app_title": "shop", "installation_id": "i-1"},
    "w3c": {"traceparent": "00-1", "other": "x"},
}
CONTEXT = {
    "version": "7",
    "arn": "arn:aws:lambda:eu-west-1:123456789012:function:orders",
    "log_group": "/logs/orders",
    "log_stream": "stream-1",
    "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tenant_id": "tenant-1",
    "identity": {"cognito_identity_id": "i-1", "cognito_identity_pool_id": "p-1"},
    "client_context": CLIENT_CONTEXT,
}
HEADERS = {
    "Lambda-Runtime-Invoked-Function-Arn": CONTEXT["arn"],
    "Lambda-Runtime-Trace-Id": "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1",
    "Lambda-Runtime-Aws-Tenant-Id": CONTEXT["tenant_id"],
    "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId": "i-1", "cognitoIdentityPoolId": "p-1"}',
    "Lambda-Runtime-Client-Context": json.dumps(CLIENT_CONTEXT),
}
EXECUTION = "AWS_Lambda_python3.12"
"""From this version on, awslambdaric writes results as UTF-8. With an older version it writes escapes."""

VARIABLES = {
    "AWS_EXECUTION_ENV": EXECUTION,
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_LAMBDA_FUNCTION_NAME": "orders",
    "AWS_LAMBDA_FUNCTION_VERSION": "7",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/logs/orders",
    "AWS_LAMBDA_LOG_STREAM_NAME": "stream-1",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "TZ": ":UTC",
}


@dataclass
class Outcome:
    """The outcome of a case: the JSON of a result or an error, and the log. Words replace ids and times."""

    result: str | None
    error: dict[str, Any] | None
    log: list[Any]

    def aspect(self, name: str) -> object:
        if name == "log":
            return self.log
        if name == "result":
            return self.error if self.result is None else self.result
        return None if self.error is None else self.error[name]


ASPECTS = ("result", "errorType", "errorMessage", "stackTrace", "log")

EVENTS = {
    "values.echo": r'{"a": [1, 2.50, -0.0, "\u00e9", null, true, {}], "big": 1180591620717411303424, "e": 1e22}',
    "values.echo_repr": r'{"a": [1, 2.50, -0.0, "\u2028", null, true, {}], "b": 1, "a": 2, "huge": 1e999}',
    "values.echo_type": "[1]",
    "values.echo_unicode": '"größer 日本語 😀"',
    "values.echo_surrogate": r'"\ud800"',
    "values.echo_nan": "NaN",
}
"""The event of a case as JSON, by the case's name. All other cases get {}."""


def cases_of(module: str) -> list[str]:
    sys.path.insert(0, str(FOLDER))
    try:
        return [f"{module}.{name}" for name in import_module(module).CASES]
    finally:
        sys.path.remove(str(FOLDER))


ALL = [case for module in ("values", "raising", "contexts", "process", "logs") for case in cases_of(module)]
LOGS = cases_of("logs")
RUNS: dict[str, tuple[list[str], dict[str, str]]] = {
    "": (ALL, {}),
    "json:": (LOGS, {"AWS_LAMBDA_LOG_FORMAT": "JSON"}),
    "debug:": ([case for case in LOGS if ".level_" in case], {"AWS_LAMBDA_LOG_LEVEL": "DEBUG"}),
}
"""The cases of one run, and variables in addition to the usual ones, by the prefix of the cases' names."""

USED = {
    "": {"place", "hints"},
    "json:": {"milliseconds", "location", "printed"},
    "debug:": set(),
}
"""The rules of Sameness that apply to a run, by the same prefix."""

LOADS = {
    "load:missing": "no_such_module.handler",
    "load:missing_in_a_package": "package.missing.handler",
    "load:missing_import": "missing_import.handler",
    "load:missing_name": "missing_name.handler",
    "load:missing_handler": "talks.missing",
    "load:syntax": "syntax.handler",
    "load:raises": "raises.handler",
    "load:raises_import_error": "raises_import_error.handler",
    "load:exits": "exits.handler",
    "load:ends": "ends.handler",
    "load:without_a_dot": "handler",
    "load:builtin": "sys.exit",
    "load:talks": "talks.handler",
    "load:package": "package.module.handler",
    "load:path": "package/module.handler",
    "load:no_function": "kinds.handler",
    "load:method": "kinds.Class.method",
    "load:coroutine": "kinds.coroutine",
    "load:one_parameter": "kinds.one",
    "load:no_parameter": "kinds.none",
    "load:three_parameters": "kinds.many",
    "load:optional_parameters": "kinds.optional",
}
"""The handlers that need a process of their own, by the name of the case."""


class Lambda:
    """The side of awslambdaric."""

    def __init__(self, folder: Path, sameness: Sameness) -> None:
        self.folder = folder
        self.normal = sameness.lambdas
        self.environment = {**lambda_client.base_environment(), **VARIABLES, "PYTHONIOENCODING": "utf-8:strict"}

    def run(self, cases: Sequence[str], more: dict[str, str]) -> dict[str, Outcome]:
        events = [event_of(case) for case in cases]
        environment = {**self.environment, **more, "_HANDLER": "index.handler"}
        found = lambda_client.run(FOLDER, "index.handler", events, self.folder / "log", HEADERS, environment)
        assert found.error is None and not found.log
        return {
            case: self.normal(one.result, one.error, one.log, f"request-{number}")
            for number, (case, one) in enumerate(zip(cases, found.outcomes, strict=True))
        }

    def load(self, folder: Path, handler: str) -> Outcome:
        environment = {**self.environment, "_HANDLER": handler}
        found = lambda_client.run(folder, handler, ["{}"], self.folder / "log", HEADERS, environment)
        result, error, log = None, found.error, found.log
        for one in found.outcomes:
            result, error, log = one.result, one.error, log + one.log
        return self.normal(result, error, log, "request-0")


class Here:
    """The side of pipe-init."""

    def __init__(self, pipe_init: PipeInit, folder: Path, sameness: Sameness) -> None:
        self.pipe_init = pipe_init
        self.normal = sameness.here
        self.context = folder / "context.json"
        self.context.write_text(json.dumps(CONTEXT))

    def arguments(self, handler: str) -> list[str]:
        own = ["--platform", "lambda", "--name", "orders", "--region", "eu-west-1", "-m", "1024", "-t", "60"]
        return ["run", handler, *own, "--context", str(self.context), "-E", f"AWS_EXECUTION_ENV={EXECUTION}"]

    def run(self, cases: Sequence[str], more: dict[str, str], *options: str) -> dict[str, Outcome]:
        events = "".join(event_of(case) + "\n" for case in cases)
        pairs = [f"{name}={value}" for name, value in more.items()]
        finished = self.pipe_init(
            *self.arguments("index.handler"),
            *(argument for pair in pairs for argument in ("-E", pair)),
            *("--events", "-", "--unordered", *options),
            cwd=FOLDER,
            stdin=events.encode(),
        )
        lines = sorted(finished.stdout.decode().split("\n")[:-1], key=lambda line: json.loads(line)["index"])
        logs = list(requests_of(finished.stderr.decode()))
        assert len(lines) == len(logs) == len(cases), finished.stderr.decode()[-2000:]
        found = {}
        for number, (case, line, (request_id, log)) in enumerate(zip(cases, lines, logs, strict=True)):
            value = json.loads(line)
            assert value["index"] == number
            error = value.get("error")
            assert error is None or error["requestId"] == request_id
            result = line.removeprefix(f'{{"index": {number}, "result": ')[:-1] if error is None else None
            found[case] = self.normal(result, error, log, request_id)
        return found

    def load(self, folder: Path, handler: str) -> Outcome:
        finished = self.pipe_init(*self.arguments(handler), "-q", "-e", "{}", cwd=folder)
        log = finished.stderr.decode()
        if finished.returncode == 0:
            return self.normal(finished.stdout.decode()[:-1], None, log, "")
        *lines, last = log.splitlines(keepends=True)
        error = json.loads(last)
        return self.normal(None, error, "".join(lines), error["requestId"])


def event_of(case: str) -> str:
    return f'{{"case": "{case}", "event": {EVENTS.get(case, "{}")}}}'


def requests_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield each request's id and its part of the log, which Lambda's log style puts between two lines."""
    pattern = r"^START RequestId: (\S+) Version: 7\n(.*?)^END RequestId: \1\n"
    for found in re.finditer(pattern, text, re.DOTALL | re.MULTILINE):
        yield found[1], found[2]


def words(text: str, request_id: str) -> str:
    """Return the text with words in place of what differs between runs: the id, the digits of times, addresses."""
    text = text.replace(request_id, "ID") if request_id else text
    text = re.sub(r" at 0x[0-9a-f]+", " at ADDRESS", text)
    return re.sub(r"\b20\d\d-\d\d-\d\d[T ][\d:.]+", lambda found: re.sub(r"\d", "0", found[0]), text)


class Sameness:
    """Make equal what differs everywhere, before outcomes are compared.

    docs/lambda.md names the rules under "Everywhere".

    Attributes:
        used: The rules that have changed something.
    """

    RULES = ("place", "hints", "frames", "warning", "milliseconds", "location", "printed")

    def __init__(self) -> None:
        self.used: set[str] = set()

    def lambdas(self, result: str | None, error: dict[str, Any] | None, log: str, request_id: str) -> Outcome:
        """Return an outcome of awslambdaric."""
        found = normal(result, error, log, request_id)
        found.log = [line for line in found.log if not ("LAMBDA_WARNING" in line and self.rule("warning"))]
        if found.error is not None:
            stack = found.error["stackTrace"]
            while stack and re.match(r'  File "[^"]*(/awslambdaric/|/importlib/|<frozen importlib)', stack[0]):
                del stack[0]
                self.rule("frames")
        return found

    def here(self, result: str | None, error: dict[str, Any] | None, log: str, request_id: str) -> Outcome:
        """Return an outcome of pipe-init."""
        found = normal(result, error, log, request_id)
        if found.error is not None and found.error["errorType"] == "Runtime.MarshalError":
            message, place = re.fullmatch(r"(.*?)(: result\S*)?", found.error["errorMessage"]).groups()  # type: ignore[union-attr]
            if place and self.rule("place"):
                found.error["errorMessage"] = message
        own = [line for line in found.log if not (str(line).startswith("pipe-init: hint: ") and self.rule("hints"))]
        records = [self.record(line) if isinstance(line, dict) else line for line in own]
        lines = [[line] if isinstance(line, dict) else line.split("\n") for line in records]
        found.log = [line for several in lines for line in several if line]
        return found

    def record(self, line: dict[str, Any]) -> Any:
        """Return a line of JSON that this runtime has written, as awslambdaric would write it."""
        stamp = line.get("timestamp", "")
        if stamp.endswith(".000Z") and self.rule("milliseconds"):
            line["timestamp"] = stamp.replace(".000Z", "Z")
        if "location" in line and "errorType" not in line and self.rule("location"):
            del line["location"]
        if "stream" in line and set(line) <= {"timestamp", "level", "message", "stream", "requestId"}:
            return words(line["message"], "") if self.rule("printed") else line
        return line

    def rule(self, name: str) -> bool:
        """Note that a rule has changed something, and return True."""
        assert name in self.RULES
        self.used.add(name)
        return True


def normal(result: str | None, error: dict[str, Any] | None, log: str, request_id: str) -> Outcome:
    """Return the outcome of a case. A log line that is a JSON object is decoded."""

    def line(text: str) -> Any:
        try:
            found = json.loads(text)
        except ValueError:
            return text
        return found if isinstance(found, dict) else text

    if result is not None:
        result = words(result, request_id)
    if error is not None:
        stack = [words(entry, request_id) for entry in error.get("stackTrace") or []]
        error = {name: words(error.get(name) or "", request_id) for name in ("errorType", "errorMessage")}
        error["stackTrace"] = stack
    return Outcome(result, error, [line(text) for text in words(log, request_id).split("\n") if text])


@dataclass
class Row:
    """A row of the table of differences: which cases differ, in which aspects, and why."""

    aspects: list[str]
    cases: list[str]
    reason: str


def table() -> list[Row]:
    found = []
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 3 and cells[0] != "what differs":
            found.append(Row(cells[0].split(", "), re.findall("`([^`]+)`", cells[1]), cells[2].rstrip(" |")))
    return found


def differences(lambdas: Outcome, here: Outcome) -> list[str]:
    """Return the aspects that differ. Compare the fields of two errors, or else the results; an error is no result."""
    both_failed = lambdas.error is not None and here.error is not None
    compared = ASPECTS[1:] if both_failed else ("result", "log")
    return [name for name in compared if lambdas.aspect(name) != here.aspect(name)]


def check(expected: dict[str, Outcome], found: dict[str, Outcome]) -> None:
    """Fail with each difference that has no reason, and each reason that has no difference."""
    known = {(case, aspect) for row in table() for case in row.cases for aspect in row.aspects}
    real = {(case, aspect) for case in expected for aspect in differences(expected[case], found[case])}
    wrong = [
        f"{case}: {aspect} differs, and docs/lambda.md does not say why:\n"
        f"    Lambda: {expected[case].aspect(aspect)!r}\n    here:   {found[case].aspect(aspect)!r}"
        for case, aspect in sorted(real - known)
    ]
    wrong += [
        f"{case}: {aspect} is the same, but docs/lambda.md says that it differs: {expected[case].aspect(aspect)!r}"
        for case, aspect in sorted(known - real)
        if case in expected
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("prefix", RUNS, ids=lambda prefix: prefix.strip(":") or "text")
def test_handlers(pipe_init: PipeInit, tmp_path: Path, prefix: str) -> None:
    cases, more = RUNS[prefix]
    sameness = Sameness()
    expected = Lambda(tmp_path, sameness).run(cases, more)
    found = Here(pipe_init, tmp_path, sameness).run(cases, more)
    check({prefix + case: one for case, one in expected.items()}, {prefix + case: one for case, one in found.items()})
    assert sameness.used == USED[prefix]


@pytest.mark.parametrize(
    ("options", "keep_no_state"),
    [(("--start-method", "template"), set()), (("--isolation", "request"), {"counts_on", "context_variable_again"})],
    ids=["template", "request"],
)
def test_handlers_in_forked_workers(
    pipe_init: PipeInit, tmp_path: Path, options: tuple[str, ...], keep_no_state: set[str]
) -> None:
    here = Here(pipe_init, tmp_path, Sameness())
    executed, forked = here.run(ALL, {}), here.run(ALL, {}, *options)
    different = {case: differences(executed[case], forked[case]) for case in ALL}
    assert {case for case in ALL if different[case]} == {f"process.{name}" for name in keep_no_state}, different


@pytest.fixture(scope="module")
def loading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the modules to load. One has a syntax error, so it cannot lie among the sources."""
    folder = tmp_path_factory.mktemp("loading")
    for file in LOADING.glob("**/*.py"):
        (folder / file.relative_to(LOADING)).parent.mkdir(exist_ok=True)
        (folder / file.relative_to(LOADING)).write_bytes(file.read_bytes())
    (folder / "syntax.py").write_text("def handler(event, context)\n    return 1\n")
    return folder


@pytest.mark.parametrize("case", LOADS)
def test_loading(pipe_init: PipeInit, tmp_path: Path, loading: Path, case: str) -> None:
    sameness = Sameness()
    expected = Lambda(tmp_path, sameness).load(loading, LOADS[case])
    found = Here(pipe_init, tmp_path, sameness).load(loading, LOADS[case])
    assert case != "load:raises" or sameness.used == {"warning", "frames"}
    check({case: expected}, {case: found})


def test_the_table_names_cases_that_there_are_and_gives_reasons() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert tuple(re.findall(r"^- \*\*(\w+)\*\*: ", text, re.MULTILINE)) == Sameness.RULES
    names = {prefix + case for prefix, (cases, _) in RUNS.items() for case in cases} | set(LOADS)
    assert len(names) >= 150
    rows = table()
    assert rows
    for row in rows:
        assert row.cases and set(row.cases) <= names, set(row.cases) - names
        assert set(row.aspects) <= set(ASPECTS) and len(row.reason) > 20, row
    pairs = [(case, aspect) for row in rows for case in row.cases for aspect in row.aspects]
    assert len(pairs) == len(set(pairs)), "two reasons for one difference"
