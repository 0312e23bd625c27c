"""Tests of hints: one line that tells what to do about a function of another convention, or no line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from pipe_init.cli.options.run_options import FC, NONE, RunOptions
from pipe_init.cli.results.hints import hint
from pipe_init.cli.results.load_hints import MAX_ENTRIES
from pipe_runtime.call.codec import decode_event, encode_result
from pipe_runtime.call.faults import describe
from pipe_runtime.load import handler
from pipe_runtime.wire.errors import Fault
from pipe_runtime.wire.messages import JSON

PARSED = "the event is parsed already; with --raw, or --platform fc, the handler gets bytes to parse"
SWAPPED = "the handler is called with (event, context); (context, event) is the order of nuclio: swap them"
REQUEST = "the handler wants a web request"
CLOUD = "annotate the parameter with pipe_runtime.cloudevent.CloudEvent"


def options(
    handler: str,
    code_dir: str = ".",
    platform: str | None = None,
    raw: bool = False,
    http: bool = False,
    concurrency: int = 1,
) -> RunOptions:
    """Return the options of a run."""
    kind = "wsgi" if http else "auto"
    given = {"platform": platform, "raw": raw, "type": kind, "concurrency": concurrency}
    return RunOptions(handler, code_dir=code_dir, **given)


class Context:
    """Stands for the runtime's class, whose name is in error messages."""


def raised(body: str, parameters: str, event: object, folder: Path) -> dict[str, Any]:
    """Return the metadata of a raising handler's ERROR. The handler's file exists, so that the stack shows its code."""
    file = folder / "index.py"
    file.write_text(f"import base64, json, re\ndef handler({parameters}):\n    return {body}\n")
    scope: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    arguments = (event, Context())[: parameters.count(",") + 1]
    try:
        scope["handler"](*arguments)
    except Exception as error:
        described = describe(error)
        described["stack"] = [entry for entry in described["stack"] if entry[0] != __file__]  # type: ignore[attr-defined]
        return described
    raise AssertionError("it did not raise")


class TestWhileItRuns:
    @pytest.mark.parametrize(
        ("body", "parameters", "event", "expected"),
        [
            ("json.loads(event)", "event, context", {"a": 1}, PARSED),
            ("json.loads(event)['a']", "event, context", [], PARSED),
            ("json.loads(evt)", "evt, context", 1, PARSED),
            ("json.loads(event.decode())", "event, context", {}, PARSED),
            ("json.loads(event.decode('utf-8'))", "event, context", "text", PARSED),
            ("str(event, 'utf-8')", "event, context", {}, PARSED),
            ("base64.b64decode(event)", "event, context", {}, PARSED),
            ("json.loads(event['body'])", "event, context", {"body": {}}, ""),
            ("json.loads(other) if (other := {}) is not None else 0", "event, context", {}, ""),
            ("context.logger.info('x')", "context, event", {}, SWAPPED),
            ("context.Response(body='x')", "context, event", [], SWAPPED),
            ("event.body", "context, event", {}, SWAPPED),
            ("event['body']", "context, event", {}, SWAPPED),
            ("context.nonsense", "event, context", {}, ""),
            ("request.get_json(silent=True)", "request", {}, REQUEST),
            ("request.args", "request", {}, REQUEST),
            ("req.params.get('name')", "req", {}, REQUEST),
            ("request.nonsense", "request", {}, ""),
            ("context.request.get_json()", "context", {}, REQUEST),
            ("cloud_event.data", "cloud_event", {}, CLOUD),
            ("start('200 OK', [])", "environ, start", {}, "needs --type wsgi"),
            ("{}['AWS_REGION']", "event, context", {}, "-E AWS_REGION=…"),
            ("{}['FC_REGION']", "event, context", {}, "--platform fc sets"),
            ("{}['body']", "event, context", {}, ""),
            ("1 / 0", "event, context", {}, ""),
        ],
    )
    def test_parsed_events(self, tmp_path: Path, body: str, parameters: str, event: object, expected: str) -> None:
        found = hint(raised(body, parameters, event, tmp_path), options("index.handler"))
        assert expected in found and bool(found) == bool(expected)
        assert "\n" not in found

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ("event['a']", "the event is bytes with --raw"),
            ("event.get('a')", "the event is bytes with --raw"),
            ("'requestContext' in event", "the event is bytes with --raw"),
            ("json.dumps({'event': event})", "the event is bytes with --raw"),
            ("dict(**event)", "the event is bytes with --raw"),
            ("event.split(',')", "the event is bytes with --raw"),
            ("re.match('a', event)", "the event is bytes with --raw"),
            ("'got ' + event", "the event is bytes with --raw"),
            ("json.loads(event)", ""),
            ("json.dumps({'text': b'another'})", ""),
        ],
    )
    def test_bytes(self, tmp_path: Path, body: str, expected: str) -> None:
        problem = raised(body, "event, context", b"no JSON", tmp_path)
        assert hint(problem, options("index.handler", raw=True)).startswith(expected)
        with_platform = hint(problem, options("index.handler", platform=FC, raw=True))
        assert ("--platform fc" in with_platform) == bool(expected)

    @pytest.mark.parametrize(
        ("body", "http", "expected"),
        [
            ("event['httpMethod']", True, "as function URLs and HTTP APIs do"),
            ("event['path']", True, "as function URLs and HTTP APIs do"),
            ("event['httpMethod']", False, ""),
            ("event['other']", True, ""),
            ("{}['path']", True, ""),
        ],
    )
    def test_an_event_of_a_rest_api(self, tmp_path: Path, body: str, http: bool, expected: str) -> None:
        found = hint(raised(body, "event, context", {}, tmp_path), options("index.handler", http=http))
        assert expected in found and bool(found) == bool(expected)

    @pytest.mark.parametrize(
        ("limit", "expected"),
        [({"name": "memory"}, "the stack of each thread counts"), ({"name": "pids"}, ""), (7, "")],
    )
    def test_no_room_for_the_stacks_of_threads(self, limit: object, expected: str) -> None:
        problem = {"error_type": "RuntimeError", "error_message": "can't start new thread", "limit": limit}
        found = hint(problem, options("index.handler"))
        assert found.startswith(expected) and bool(found) == bool(expected)

    @pytest.mark.parametrize(("kind", "message"), [("EOFError", "EOF when reading a line"), ("BdbQuit", "")])
    def test_nothing_to_read(self, kind: str, message: str) -> None:
        found = hint({"error_type": kind, "error_message": message}, options("index.handler"))
        assert found.startswith("a function's stdin is empty")

    def test_an_event_that_is_not_json(self) -> None:
        try:
            decode_event(b"no JSON", JSON)
        except Fault as fault:
            problem = describe(fault)
        assert hint(problem, options("index.handler")).startswith("with --raw the handler gets bytes")
        assert not hint(problem, options("index.handler", raw=True))

    def test_no_region(self) -> None:
        problem = {"error_type": "NoRegionError", "error_message": "You must specify a region."}
        assert "--platform lambda sets" in hint(problem, options("index.handler", platform=NONE))
        assert "-E AWS_REGION" in hint(problem, options("index.handler"))

    def test_a_result_of_bytes(self) -> None:
        try:
            encode_result({"a": b"\xff"}, JSON)
        except Fault as fault:
            problem = describe(fault)
        assert "--bytes base64" in hint(problem, options("index.handler"))
        assert not hint(problem, options("index.handler", raw=True))
        assert not hint({**problem, "error_message": "another"}, options("index.handler"))

    @pytest.mark.parametrize("work", [lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL), asyncio.get_event_loop])
    def test_what_only_the_main_thread_can(self, work: Callable[[], object]) -> None:
        problems: list[dict[str, Any]] = []

        def run() -> None:
            try:
                work()
            except Exception as error:
                problems.append(describe(error))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert "use --workers instead" in hint(problems[0], options("index.handler", concurrency=2))
        assert not hint(problems[0], options("index.handler"))

    def test_too_many_parameters(self) -> None:
        message = "handler() missing 1 required positional argument: 'callback'"
        problem = {"error_type": "TypeError", "error_message": message, "stack": []}
        assert "a handler takes (event, context)" in hint(problem, options("index.handler"))
        assert not hint(problem, options("index.other"))

    def test_http_for_an_event_function(self) -> None:
        message = "Unable to unmarshal input: it is an HTTP request, and this function takes an event (…)"
        problem = {"error_type": "Runtime.UnmarshalError", "error_message": message}
        assert "--platform lambda or fc" in hint(problem, options("index.handler", platform=NONE, http=True))
        assert not hint(problem, options("index.handler", http=True))
        assert not hint(problem, options("index.handler", platform=NONE))


class TestWhileItLoads:
    FILES = {
        "index.py": "import json\n\ndef helper():\n    pass\n\ndef handler(event, context):\n    pass\n",
        "only.py": "def work(event):\n    pass\n",
        "web.py": "app = object()\n",
        "src/main.py": "def handler(event):\n    pass\n",
        "pkg/mod.py": "def handler(event):\n    pass\n",
        "src/deep.py": "async def handler(event, context):\n    pass\n",
        "a b/odd.py": "def handler(event):\n    pass\n",
    }

    def error_of(self, name: str, folder: Path) -> dict[str, Any]:
        """Return the error of the runtime's own loader for a name."""
        sys.path.insert(0, str(folder))
        before = set(sys.modules)
        try:
            handler.find(name, str(folder))
        except Fault as fault:
            return describe(fault)
        finally:
            sys.path.remove(str(folder))
            for each in set(sys.modules) - before:
                del sys.modules[each]
        raise AssertionError(f"{name} can be loaded")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name, text in self.FILES.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    @pytest.mark.parametrize(
        ("name", "command"),
        [
            ("index.py", "index.handler"),
            ("./index.py", "index.handler"),
            ("index", "index.handler"),
            ("index.handlr", "index.handler"),
            ("index:Handler", "index.handler"),
            ("index.lambda_handler", "index.handler"),
            ("index.handler()", "index.handler"),
            ("index/handler", "index.handler"),
            ("index::handler", "index.handler"),
            ("index.handler.", "index.handler"),
            ("src", "main.handler -C {folder}/src"),
            ("src/", "main.handler -C {folder}/src"),
            ("src/deep", "deep.handler -C {folder}/src"),
            ("src/deep/handler", "deep.handler -C {folder}/src"),
            ("pkg.mod.handlr", "pkg.mod.handler"),
            ("pkg.mod", "pkg.mod.handler"),
            ("pkg/mod.handlr", "mod.handler -C {folder}/pkg"),
            ("only.py", "only.work"),
            ("only.handler", "only.work"),
            ("web.application", "web.app"),
            ("deep.handler", "deep.handler -C {folder}/src"),
            ("src/deep.py", "deep.handler -C {folder}/src"),
            ("deep.py", "deep.handler -C {folder}/src"),
            ("odd.handler", ""),
            ("a b/odd.py", "odd.handler -C '{folder}/a b'"),
            ("lambda_function.lambda_handler", "index.handler"),
            ("{folder}/index.py", "index.handler"),
            ("{folder}/src/deep.py", "deep.handler -C {folder}/src"),
            ("nothing.like.it", "index.handler"),
        ],
    )
    def test_names(self, folder: Path, name: str, command: str) -> None:
        name, command = name.format(folder=folder), command.format(folder=folder)
        found = hint(self.error_of(name, folder), options(name, str(folder)))
        wanted = f"try `pipe-init run {command or 'index.handler'}`"
        assert found.partition(" (HANDLER")[0] == wanted

    def test_a_file_is_told_from_a_name(self, folder: Path) -> None:
        found = hint(self.error_of("index.py", folder), options("index.py", str(folder)))
        assert found.endswith(" (HANDLER is module.function, not a file)")

    def test_nothing_is_there(self, tmp_path: Path) -> None:
        for name in ("index.handler", "index", "/", "..", "index.py", "a/../b.c", " "):
            assert hint(self.error_of(name, tmp_path), options(name, str(tmp_path))) == ""

    def test_a_hook_is_not_the_handler(self, folder: Path) -> None:
        setting = options("index.handler", str(folder))
        assert hint(self.error_of("index.initialise", folder), setting) == ""
        assert hint(self.error_of("index.helpr", folder), setting) == "there is index.helper"

    def test_a_dependency_that_is_missing(self, folder: Path) -> None:
        (folder / "index.py").write_text("import no_such_package.part\n")
        found = hint(self.error_of("index.handler", folder), options("index.handler", str(folder)))
        assert found.startswith("install no_such_package into the function's Python, or name the one")

    @pytest.mark.parametrize(
        ("file", "expected"),
        [
            (".venv/bin/python", "`--python {folder}/.venv` runs"),
            ("venv/bin/python", "`--python {folder}/venv` runs"),
            ("package/no_such_package/__init__.py", "`--layer {folder}/package` has no_such_package"),
            ("python/no_such_package.py", "`--layer {folder}/python` has no_such_package"),
            ("../no_such_package.py", "no_such_package is in the folder above; try `pipe-init run function.index.h"),
        ],
    )
    def test_a_dependency_that_is_near(self, tmp_path: Path, file: str, expected: str) -> None:
        folder = tmp_path / "function"
        folder.mkdir()
        (folder / "index.py").write_text("import no_such_package.part\n")
        problem = self.error_of("index.handler", folder)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
        assert hint(problem, options("index.handler", str(folder))).startswith(expected.format(folder=folder))

    @pytest.mark.parametrize(
        ("name", "command"),
        [
            ("src.app.handler", "app.handler"),
            ("src/app.handler", "app.handler"),
            ("./src/app.handler", "app.handler"),
            ("src.app:handler", "app:handler"),
        ],
    )
    def test_a_module_beside_the_handler(self, folder: Path, name: str, command: str) -> None:
        (folder / "src" / "app.py").write_text("import beside\n")
        problem = self.error_of(name, folder)
        assert hint(problem, options(name, str(folder))).startswith("install beside ")
        (folder / "src" / "beside.py").touch()
        expected = f"beside is beside the handler; try `pipe-init run {command} -C {folder}/src`"
        assert hint(problem, options(name, str(folder))) == expected

    @pytest.mark.parametrize(
        ("name", "statement"), [("index.handler", "from . import near"), ("pkg.mod.handler", "from .. import far")]
    )
    def test_a_relative_import_above_the_code_directory(self, tmp_path: Path, name: str, statement: str) -> None:
        folder = tmp_path / "function"
        (folder / "pkg").mkdir(parents=True)
        for file in ("index.py", "pkg/mod.py"):
            (folder / file).write_text(f"{statement}\n")
        found = hint(self.error_of(name, folder), options(name, str(folder)))
        assert found.endswith(f"; try `pipe-init run function.{name} -C {tmp_path}`")

    def test_what_the_module_itself_does_wrong(self, folder: Path) -> None:
        for text in ("def handler(:\n", "import json.nothing\n", "from json import nothing\n"):
            (folder / "index.py").write_text(text)
            assert "pipe-init run" not in hint(
                self.error_of("index.handler", folder), options("index.handler", str(folder))
            )

    def test_a_file_full_of_long_names_is_not_compared_for_minutes(self, tmp_path: Path) -> None:
        names = ["".join(chosen) for chosen in product("ab", repeat=12)]
        lines = [f"def {name * 16}():\n" for name in names]  # all of them are hard to tell apart
        (tmp_path / "index.py").write_text("".join(lines) + "def prestop():\n")
        message = f"Handler '{names[5] * 16}b' missing on module 'index'"
        problem = {"error_type": "Runtime.HandlerNotFound", "error_message": message}
        assert hint(problem, options("index.handler", str(tmp_path))) == ""

    def test_what_is_no_plain_file_is_not_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Check that the hint does not wait for a FIFO, even if the path was a plain file a moment ago."""
        os.mkfifo(tmp_path / "index.py")
        monkeypatch.setattr(os.path, "isfile", lambda path: str(path).endswith("index.py"))
        for name in ("index.handler", "index.handle", "main"):
            assert hint(self.error_of(name, tmp_path), options(name, str(tmp_path))) == ""
        message = "Handler 'stop' missing on module 'index'"
        problem = {"error_type": "Runtime.HandlerNotFound", "error_message": message}
        assert hint(problem, options("main.handler", str(tmp_path))) == ""

    def test_a_large_tree_is_not_searched(self, tmp_path: Path) -> None:
        for number in range(MAX_ENTRIES + 1):
            (tmp_path / f"a{number}").mkdir()
        (tmp_path / "zz").mkdir()
        (tmp_path / "zz" / "index.py").write_text("def handler(event):\n    pass\n")
        assert hint(self.error_of("index.handler", tmp_path), options("index.handler", str(tmp_path))) == ""


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
KINDS = [
    "Runtime.ImportModuleError",
    "Runtime.HandlerNotFound",
    "Runtime.MalformedHandlerName",
    "TypeError",
    "KeyError",
]


@hypothesis.given(
    kind=st.sampled_from(KINDS) | JUNK,
    message=st.sampled_from(["'Context' object has no attribute 'x'", "No module named 'x' (looked for", "''"]) | JUNK,
    stack=JUNK | st.lists(st.tuples(st.text(), st.integers(), st.text(), st.text()).map(list), max_size=3),
    name=st.text(max_size=20) | st.sampled_from(["index.py", "\0", "a/b/c", "(", "..", "::"]),
)
def test_whatever_an_error_holds(kind: object, message: object, stack: object, name: str) -> None:
    problem = {"error_type": kind, "error_message": message, "stack": stack}
    found = hint(problem, options(name, "/nowhere"))
    assert found == "" or found.isprintable()
