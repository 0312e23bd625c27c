"""Tests of handler names: the callables that they name, and the errors for wrong names, each in a new interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import pipe_runtime
from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS

DRIVER = """\
import sys
baseline = set(sys.modules)
CODE, NAMES, LAYERS = {arguments!r}
import datetime, struct, msgpack
from pipe_runtime import namespace
from pipe_runtime.call import faults
from pipe_runtime.load import handler
from pipe_runtime.wire import errors
namespace.prepare(CODE, LAYERS, baseline, NAMES[0])
present = set(sys.modules)

def load(name):
    return handler.adapt(handler.find(name, CODE))

def attempt(name):
    json = namespace.stdlib("json")
    try:
        function = load(name)
    except errors.Fault as fault:
        stack = [entry for entry in faults.describe(fault)["stack"] if entry[0] != __file__]
        return dict(type=fault.error_type, message=fault.message, stack=stack)
    except BaseException as error:
        return dict(raised=type(error).__name__, message=str(error))
    return dict(result=function("event", "context"))
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


def write(code: Path, /, **modules: str) -> None:
    for name, text in modules.items():
        put(code, f"{name}.py", text)


def put(code: Path, path: str, text: str) -> None:
    target = code / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(textwrap.dedent(text))


def run(code: Path, body: str, *names: str, layers: tuple[str, ...] = ()) -> str:
    site = code.parent / "site"
    site.mkdir(exist_ok=True)
    link = site / "pipe_runtime"
    if not link.exists():
        link.symlink_to(Path(pipe_runtime.__file__).resolve().parent)
    # The code is a file, as the runtime is. With -c the interpreter itself may import linecache first.
    script = site / "script.py"
    arguments = (str(code), names or ("x.y",), layers)
    script.write_text(DRIVER.format(arguments=arguments) + textwrap.dedent(body))
    command = [sys.executable, str(script)]
    # Coverage loads much of the standard library. In a test about such a name, it would change the result.
    clash = any(path.stem in sys.stdlib_module_names for path in code.iterdir())
    env = unmeasured() if clash else None
    done = subprocess.run(command, capture_output=True, text=True, cwd=code.parent, timeout=HANGS, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def attempt(code: Path, name: str, layers: tuple[str, ...] = ()) -> dict[str, Any]:
    body = "outcome = attempt(NAMES[0])\nprint(namespace.stdlib('json').dumps(outcome))\n"
    answer: dict[str, Any] = json.loads(run(code, body, name, layers=layers))
    return answer


PLAIN = "def handler(event, context):\n    return [__name__, event, context]\n"


@pytest.mark.parametrize(
    ("path", "name", "module"),
    [
        ("index.py", "index.handler", "index"),
        ("index.py", "index:handler", "index"),
        ("index.py", "./index.handler", "index"),
        ("pkg/mod.py", "pkg.mod.handler", "pkg.mod"),
        ("pkg/mod.py", "pkg.mod:handler", "pkg.mod"),
        ("pkg/mod.py", "pkg/mod.handler", "pkg.mod"),
        ("pkg/mod.py", "pkg//mod:handler", "pkg.mod"),
        ("a/b/index.py", "a/b/index.handler", "a.b.index"),
        ("a/b/index.py", "a/b.index.handler", "a.b.index"),
        ("my-dir/index.py", "my-dir/index.handler", "my-dir.index"),
        ("1st/index.py", "1st/index.handler", "1st.index"),
        ("v1.2/index.py", "v1.2/index.handler", "v1_2.index"),
        ("a/v1.2/index.py", "a/v1.2/index.handler", "a.v1_2.index"),
        ("test/index.py", "test/index.handler", "test.index"),
        ("test/index.py", "test.index.handler", "test.index"),
        ("json/index.py", "json/index.handler", "json.index"),
        ("token/index.py", "token/index.handler", "token.index"),
        ("time/index.py", "time/index.handler", "time.index"),
        ("os/index.py", "os/index.handler", "os.index"),
        ("pkg/__init__.py", "pkg.handler", "pkg"),
        ("pkg/__init__.py", "pkg:handler", "pkg"),
        ("handler.py", "handler.handler", "handler"),
        ("context.py", "context.handler", "context"),
        ("münchen.py", "münchen.handler", "münchen"),
    ],
)
def test_forms_of_a_name(code: Path, path: str, name: str, module: str) -> None:
    put(code, path, PLAIN)
    assert attempt(code, name) == {"result": [module, "event", "context"]}


@pytest.mark.parametrize(
    "module",
    "datetime struct code token json click init msgpack inspect linecache typing".split(),
)
def test_modules_named_like_ours(code: Path, module: str) -> None:
    write(code, **{module: PLAIN})
    assert attempt(code, f"{module}.handler") == {"result": [module, "event", "context"]}


@pytest.mark.parametrize("folder", ["test", "json", "email", "token", "time"])
def test_a_folder_leaves_the_library_module_of_its_name_whole(code: Path, folder: str) -> None:
    put(code, f"{folder}/sibling.py", "HERE = True\n")
    put(
        code,
        f"{folder}/index.py",
        f"""
        import {folder} as library
        from . import sibling
        def handler(event, context):
            return [sibling.HERE, "code" in str(getattr(library, "__file__", ""))]
        """,
    )
    assert attempt(code, f"{folder}/index.handler") == {"result": [True, False]}


SHAPES = """
import functools

class Class:
    count = 0
    def __init__(self):
        type(self).count += 1
    def method(self, event, context):
        return ["method", self.count, event, context]
    def one(self, event):
        return ["one", event]
    def none(self):
        return ["none"]
    @staticmethod
    def static(event, context):
        return ["static", event, context]
    @classmethod
    def of_class(cls, event):
        return ["class", cls.__name__, event]
    def __call__(self, event):
        return ["call", event]
    class Inner:
        def method(self, event, context):
            return ["inner", event, context]
    number = 3

class Sub(Class):
    pass

class Needs:
    def __init__(self, argument):
        pass
    def method(self, event, context):
        pass

class Fails:
    def __init__(self):
        raise TypeError("mine")
    def method(self, event, context):
        pass

def plain(event, context): return ["plain", event, context]
def event_only(event): return ["event_only", event]
def nothing(): return ["nothing"]
def default(event, context=None): return ["default", event, context]
def defaults(event={}, context=None, more=1): return ["defaults", event, context, more]
def star(*args): return ["star", *args]
def one_star(event, *args): return ["one_star", event, *args]
def positional(event, context, /): return ["positional", event, context]
def keywords(event, *, flag=1, **rest): return ["keywords", event]

def decorator(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return ["decorated", *function(*args, **kwargs)]
    return inner

def explicit(function):
    @functools.wraps(function)
    def inner(event, context):
        return ["explicit", context, *function(event)]
    return inner

decorated_two = decorator(plain)
decorated_one = decorator(decorator(event_only))
decorated_none = decorator(nothing)
explicit_one = explicit(event_only)
endless = lambda *args: ["endless"]
endless.__wrapped__ = endless
instance = Class()
sub = Sub()
bound = instance.method
partial = functools.partial(plain, context="bound")
partial_first = functools.partial(plain, "bound")
lam = lambda event: ["lambda", event]
built_in = max
nested = {"a": 1}
"""

E, C = "event", "context"


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("plain", ["plain", E, C]),
        ("event_only", ["event_only", E]),
        ("nothing", ["nothing"]),
        ("default", ["default", E, C]),
        ("defaults", ["defaults", E, C, 1]),
        ("star", ["star", E, C]),
        ("one_star", ["one_star", E, C]),
        ("positional", ["positional", E, C]),
        ("keywords", ["keywords", E]),
        ("decorated_two", ["decorated", "plain", E, C]),
        ("decorated_one", ["decorated", "decorated", "event_only", E]),
        ("decorated_none", ["decorated", "nothing"]),
        ("explicit_one", ["explicit", C, "event_only", E]),
        ("endless", ["endless"]),
        ("instance", ["call", E]),
        ("sub", ["call", E]),
        ("bound", ["method", 1, E, C]),
        ("partial", ["plain", E, "bound"]),
        ("partial_first", ["plain", "bound", E]),
        ("lam", ["lambda", E]),
        ("built_in", E),
        ("Class.method", ["method", 3 - 1, E, C]),
        ("Class.one", ["one", E]),
        ("Class.none", ["none"]),
        ("Class.static", ["static", E, C]),
        ("Class.of_class", ["class", "Class", E]),
        ("Class.Inner.method", ["inner", E, C]),
        ("Sub.one", ["one", E]),
        ("instance.one", ["one", E]),
    ],
)
@pytest.mark.parametrize("separator", [".", ":"])
def test_shapes_and_signatures(code: Path, name: str, result: object, separator: str) -> None:
    write(code, index=SHAPES)
    assert attempt(code, f"index{separator}{name}") == {"result": result}


def test_an_adapter_shows_what_it_wraps_and_two_arguments_need_none(code: Path) -> None:
    write(code, index="async def one(event): pass\ndef two(event, context): pass\n")
    run(
        code,
        """
        one, two = load("index.one"), load("index.two")
        import index
        assert one.__wrapped__ is index.one and two is index.two
        assert "inspect" not in set(sys.modules) - baseline
        """,
    )


def test_a_class_is_instantiated_once(code: Path) -> None:
    write(code, index=SHAPES)
    out = run(code, "function = load('index.Class.method')\nprint(function(1, 2)[1], function(1, 2)[1])\n")
    assert out == "2 2\n"  # one instance was made by the module itself


@pytest.mark.parametrize(
    "name",
    [
        "", "index", ".handler", "index.", "index..handler", ":handler", "index:", "a:b:c", "a:b/c.d", "dir/",
        "../index.handler", "dir/../../index.handler", "/index.handler", "/etc/index:handler",
        "..index.handler", "index\0.handler", "dir/index", "index:.handler",
    ],
)  # fmt: skip
def test_malformed_names(code: Path, name: str) -> None:
    write(code, index=PLAIN)
    answer = attempt(code, name)
    assert answer["type"] == "Runtime.MalformedHandlerName"
    assert answer["message"].startswith(f"Bad handler '{name}': ")


@pytest.mark.parametrize(
    "name",
    "os.handler sys.exit time.sleep io.open json.dumps os.path.join __main__.load json:dumps".split(),
)
def test_built_in_modules(code: Path, name: str) -> None:
    write(code, os=PLAIN, sys=PLAIN, time=PLAIN, io=PLAIN, __main__=PLAIN)
    answer = attempt(code, name)
    module = name.partition(":")[0] if ":" in name else name.rpartition(".")[0]
    assert answer["type"] == "Runtime.BuiltInModuleConflict"
    assert answer["message"] == f"Cannot use built-in module {module} as a handler module"


def test_a_submodule_of_the_librarys_is_not_mistaken_for_the_functions(code: Path) -> None:
    put(code, "json/tool.py", PLAIN)
    assert attempt(code, "json/tool.handler")["type"] == "Runtime.BuiltInModuleConflict"


def test_a_module_taken_by_another(code: Path) -> None:
    out = run(code, "sys.modules['index'] = type(sys)('index')\nprint(attempt('index.x')['type'])\n")
    assert out == "Runtime.BuiltInModuleConflict\n"


def test_hooks_and_handler_of_one_module(code: Path, tmp_path: Path) -> None:
    put(tmp_path, "layer/lib/mod.py", PLAIN + "def initialize(context): pass\n")
    put(code, "index.py", PLAIN + "def initialize(context): pass\n")
    body = """
    for place in ("lib.mod", "index"):
        assert load(place + ".initialize")
        assert load(place + ".handler") is sys.modules[place].handler
    """
    run(code, body, layers=(str(tmp_path / "layer"),))


def test_a_module_that_cannot_be_found(code: Path) -> None:
    write(code, main=PLAIN, app=PLAIN)
    answer = attempt(code, "index.handler")
    assert answer == {
        "type": "Runtime.ImportModuleError",
        "message": "Unable to import module 'index': No module named 'index' "
        f"(looked for index.py and index/__init__.py in {code}; there is: app.py, main.py)",
        "stack": [],
    }


@pytest.mark.parametrize(
    ("name", "module"),
    [("pkg.none.handler", "pkg.none"), ("pkg/none.handler", "pkg.none"), ("no/index.handler", "no.index")],
)
def test_a_submodule_that_cannot_be_found(code: Path, name: str, module: str) -> None:
    put(code, "pkg/__init__.py", "")
    answer = attempt(code, name)
    assert answer["type"] == "Runtime.ImportModuleError" and answer["stack"] == []
    assert answer["message"].startswith(f"Unable to import module '{module}': No module named ")


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("import requests_of_ours", "No module named 'requests_of_ours'"),
        ("import index.more", "No module named 'index.more'; 'index' is not a package"),
        ("raise ImportError('by hand')", "by hand"),
        ("raise ModuleNotFoundError(\"No module named 'index'\", name='index')", "No module named 'index'"),
        ("import importlib; importlib.import_module('gone')", "No module named 'gone'"),
    ],
)
def test_an_import_that_fails_inside(code: Path, statement: str, why: str) -> None:
    write(code, index=f"import helper\n{PLAIN}", helper=f"\n{statement}\n")
    answer = attempt(code, "index.handler")
    assert answer["type"] == "Runtime.ImportModuleError"
    assert answer["message"] == f"Unable to import module 'index': {why}"
    files = [entry for entry in answer["stack"] if entry[0].startswith(str(code))]
    assert files == [
        [str(code / "index.py"), 1, "<module>", "import helper"],
        [str(code / "helper.py"), 2, "<module>", statement],
    ]
    assert not [entry for entry in answer["stack"] if "pipe_runtime" in entry[0] or "frozen" in entry[0]]


def test_a_syntax_error(code: Path) -> None:
    write(code, index="x = 1\ndef broken(:\n    pass\n")
    answer = attempt(code, "index.handler")
    assert answer["type"] == "Runtime.UserCodeSyntaxError"
    assert answer["message"].startswith("Syntax error in module 'index': ")
    assert answer["stack"] == [[str(code / "index.py"), 2, "<module>", "def broken(:"]]


def test_a_syntax_error_further_in(code: Path) -> None:
    write(code, index="import helper\n", helper="x = 1\n  indented = 1\n")
    answer = attempt(code, "index.handler")
    assert answer["type"] == "Runtime.UserCodeSyntaxError"
    assert answer["stack"] == [[str(code / "helper.py"), 2, "<module>", "indented = 1"]]


@pytest.mark.parametrize("content", [b"x = 1\ny = '\0'\n", b"x = '\xff\xfe'\n", b"# coding: no-such\n"])
@pytest.mark.parametrize("path", ["index.py", "index/__init__.py"])
def test_a_file_that_is_no_text(code: Path, content: bytes, path: str) -> None:
    (code / path).parent.mkdir(exist_ok=True)
    (code / path).write_bytes(content)
    answer = attempt(code, "index.handler")
    assert answer["type"] == "Runtime.UserCodeSyntaxError"
    [[file, line, function, _]] = answer["stack"]
    assert (file, function) == (str(code / path), "<module>") and line >= 1


@pytest.mark.parametrize("name", ["none", "Class.none_such", "nested.b", "none.method"])
def test_a_missing_handler(code: Path, name: str) -> None:
    write(code, index=SHAPES)
    answer = attempt(code, f"index.{name}")
    assert answer["type"] == "Runtime.HandlerNotFound"
    assert answer["message"] == f"Handler '{name}' missing on module 'index'"


def test_a_handler_that_cannot_be_called(code: Path) -> None:
    write(code, index=SHAPES)
    answer = attempt(code, "index.nested")
    assert answer["type"] == "Runtime.HandlerNotFound"
    assert answer["message"] == "Handler 'nested' missing on module 'index': it is of type dict, not callable"


def test_a_class_that_cannot_be_made(code: Path) -> None:
    write(code, index=SHAPES)
    answer = attempt(code, "index.Needs.method")
    assert answer["type"] == "Runtime.HandlerNotFound" and "argument" in answer["message"]
    assert attempt(code, "index.Fails.method") == {"raised": "TypeError", "message": "mine"}


@pytest.mark.parametrize(
    ("statement", "raised", "message"),
    [
        ("raise SystemExit(3)", "SystemExit", "3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("1 / 0", "ZeroDivisionError", "division by zero"),
        ("raise ValueError('mine')", "ValueError", "mine"),
        ("open('/no/file')", "FileNotFoundError", "[Errno 2] No such file or directory: '/no/file'"),
    ],
)
def test_other_exceptions_pass(code: Path, statement: str, raised: str, message: str) -> None:
    write(code, index=statement + "\n")
    assert attempt(code, "index.handler") == {"raised": raised, "message": message}


def test_an_attribute_of_a_package_that_is_no_module(code: Path) -> None:
    put(code, "pkg/__init__.py", "class Class:\n    def method(self, event): return 'found'\n")
    assert attempt(code, "pkg.Class.method") == {"result": "found"}


def test_a_colon_ends_the_module(code: Path) -> None:
    put(code, "pkg/__init__.py", "class app:\n    def run(self): return 'attribute'\n")
    put(code, "pkg/app.py", "def run(): return 'submodule'\n")
    assert attempt(code, "pkg:app.run") == {"result": "attribute"}
    assert attempt(code, "pkg.app.run") == {"result": "submodule"}


def test_a_folder_beside_a_module_of_its_name(code: Path) -> None:
    put(code, "index/data.py", "")
    write(code, index=SHAPES)
    out = run(code, "print(load('index.Class.none')(1, 2), hasattr(sys.modules['index'], '__path__'))\n")
    assert out == "['none'] False\n"


@pytest.mark.parametrize("folder", ["fns", "test", "my-dir", "v1.2"])
def test_identity(code: Path, folder: str) -> None:
    put(code, f"{folder}/models.py", "class Other: pass\n")
    put(
        code,
        f"{folder}/index.py",
        """
        from __future__ import annotations
        import dataclasses, pickle, sys, typing
        from .models import Other
        @dataclasses.dataclass
        class Item:
            n: int
            kind: typing.ClassVar[str] = "kind"
        def handler(event, context):
            copy = pickle.loads(pickle.dumps([Item(1), Other()]))
            assert type(copy[0]) is Item and copy[0] == Item(1) and type(copy[1]) is Other
            assert sys.modules[__name__].handler is handler and __spec__.name == __name__
            assert [field.name for field in dataclasses.fields(Item)] == ["n"]
            return __package__
        """,
    )
    assert attempt(code, f"{folder}/index.handler") == {"result": folder.replace(".", "_")}


def test_a_handler_in_a_layer(code: Path, tmp_path: Path) -> None:
    put(tmp_path, "layer/lib/mod.py", PLAIN)
    layers = (str(tmp_path / "layer"),)
    assert attempt(code, "lib.mod.handler", layers) == {"result": ["lib.mod", "event", "context"]}
    assert attempt(code, "lib/mod.handler", layers) == {"result": ["lib.mod", "event", "context"]}
