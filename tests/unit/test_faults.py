"""Tests of exceptions as data: everything that Python can raise, and exceptions that cannot be read."""

from __future__ import annotations

import builtins
import linecache
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipe_runtime.call import codec, faults
from pipe_runtime.wire.errors import Fault


def raised(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:  # any exception at all is meant here
        return error
    raise AssertionError("nothing was raised")


def described(error: BaseException) -> dict[str, Any]:
    """Return what describe() returns, after checking what must hold for every exception."""
    answer = faults.describe(error)
    packed = msgpack.packb(answer)
    assert len(packed) <= faults.HEAD_LIMIT
    assert msgpack.unpackb(packed) == answer
    check(answer)
    return answer


def check(node: Any) -> None:
    assert {"error_type", "error_message", "stack"} <= set(node) <= {
        "error_type", "error_message", "stack", "cause", "exceptions"
    }  # fmt: skip
    assert type(node["error_type"]) is str and type(node["error_message"]) is str
    assert len(node["error_message"].encode("utf-8")) <= faults.TEXT_LIMIT
    for file, line, function, source in node["stack"]:
        assert [type(file), type(line), type(function), type(source)] == [str, int, str, str]
    if "cause" in node:
        check(node["cause"])
    for member in node.get("exceptions", []):
        check(member)


def run(source: str, **variables: Any) -> dict[str, Any]:
    """Run source text as a user's module and describe what it raises."""
    space = {"__name__": "index", **variables}
    return described(raised(lambda: exec(compile(source, "/code/index.py", "exec"), space)))


def functions(node: dict[str, Any]) -> list[str]:
    return [entry[2] for entry in node["stack"]]


# Type and message


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (ValueError("wrong"), "ValueError", "wrong"),
        (ValueError(), "ValueError", ""),
        (KeyError("k"), "KeyError", "'k'"),
        (SystemExit(3), "SystemExit", "3"),
        (SystemExit("bye"), "SystemExit", "bye"),
        (SystemExit(), "SystemExit", "None"),
        (KeyboardInterrupt(), "KeyboardInterrupt", ""),
        (OSError(2, "No such file", "x"), "FileNotFoundError", "[Errno 2] No such file: 'x'"),
        (Fault("Runtime.HandlerNotFound", "missing"), "Runtime.HandlerNotFound", "missing"),
        (ValueError("a\udc80b"), "ValueError", "a\\udc80b"),
    ],
)
def test_type_and_message(error: BaseException, name: str, message: str) -> None:
    assert described(error) == {"error_type": name, "error_message": message, "stack": []}


def test_long_message_is_cut_between_characters() -> None:
    message = described(ValueError("é" * 100_000))["error_message"]
    assert message.endswith("é" + faults.CUT)
    assert faults.TEXT_LIMIT - 2 <= len(message.encode()) <= faults.TEXT_LIMIT


@given(st.text(st.characters(), max_size=50), st.integers(16, 60))
def test_clean_text_fits_and_is_valid(text: str, limit: int) -> None:
    cleaned = faults.clean(text, limit)
    assert len(cleaned.encode("utf-8")) <= limit
    escaped = text.encode("utf-8", "backslashreplace").decode()
    assert cleaned == escaped or (cleaned.endswith(faults.CUT) and len(escaped.encode()) > limit)


def test_notes_are_lines_of_the_message() -> None:
    error: Any = ValueError("wrong")
    error.__dict__["__notes__"] = ["first", 2, "third"]
    assert described(error)["error_message"] == "wrong\nfirst\n2\nthird"
    error.__dict__["__notes__"] = "no list"
    assert described(error)["error_message"] == "wrong"


# Stack


def test_stack_has_file_line_function_and_source(tmp_path: Path) -> None:
    file = tmp_path / "index.py"
    file.write_text("def inner():\n    raise ValueError('x')\n\ndef handler():\n    inner()  # call\n")
    space: dict[str, Any] = {"__name__": "index"}
    exec(compile(file.read_text(), str(file), "exec"), space)
    stack = described(raised(space["handler"]))["stack"]
    assert stack[0][2] == "raised"
    assert stack[1:] == [
        [str(file), 5, "handler", "inner()  # call"],
        [str(file), 2, "inner", "raise ValueError('x')"],
    ]


def test_source_is_read_anew_after_a_change(tmp_path: Path) -> None:
    file = tmp_path / "index.py"
    for name in ("ValueError", "LongerNamedError"):
        file.write_text(f"class LongerNamedError(Exception): ...\nraise {name}\n")
        error = raised(lambda: exec(compile(file.read_text(), str(file), "exec"), {"__name__": "index"}))
        assert described(error)["stack"][-1][3] == f"raise {name}"


def test_missing_source_is_empty() -> None:
    assert run("raise ValueError")["stack"][-1] == ["/code/index.py", 1, "<module>", ""]


@pytest.mark.parametrize("name", ["pipe.py", "/dev/zero", "/proc/kmsg"])
@pytest.mark.parametrize("relative", [True, False])
def test_file_that_may_have_no_end_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, relative: bool
) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    monkeypatch.syspath_prepend(tmp_path)
    file = name if relative else str(tmp_path / name)
    error = raised(lambda: exec(compile("1/0", file, "exec"), {"__name__": "index"}))
    assert described(error)["stack"][-1] == [file, 1, "<module>", ""]


def test_very_large_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "index.py"
    file.write_text("1/0\n")
    error = raised(lambda: exec(compile("1/0", str(file), "exec"), {"__name__": "index"}))
    assert described(error)["stack"][-1][3] == "1/0"
    os.truncate(file, faults.SOURCE_LIMIT + 1)
    assert described(error)["stack"][-1][3] == ""


def test_a_loader_that_raises_costs_the_source_line_only() -> None:
    class Loader:
        def get_source(self, name: str) -> str:
            raise SystemExit

    answer = run("raise ValueError", __loader__=Loader())
    assert answer["stack"][-1] == ["/code/index.py", 1, "<module>", ""]


def test_own_frames_are_cut_by_module_and_not_by_file_name() -> None:
    """Check that a user's own codec.py stays and the runtime's frames go, at the top, in the middle and at the end."""

    class Answer:
        def to_json(self) -> None:
            raise ValueError

    error = raised(lambda: codec.encode_result(Answer(), "application/json"))
    answer = described(error)
    assert "encode_result" not in functions(answer)
    assert functions(answer["cause"])[-1] == "to_json"
    assert not {"encode_result", "_convert", "_json_default"} & set(functions(answer["cause"]))
    space = {"__name__": "codec"}
    error = raised(lambda: exec(compile("1/0", faults.__file__, "exec"), space))
    assert functions(described(error))[-1] == "<module>"
    for own in (
        {"__name__": "pipe_runtime.x.y", "__package__": "pipe_runtime.x"},
        {"__name__": "__main__", "__package__": "pipe_runtime"},
    ):
        error = raised(lambda own=own: exec("1/0", own))  # type: ignore[misc]
        assert "<module>" not in functions(described(error))
    error = raised(lambda: exec("1/0", {"__name__": "x", "__package__": "pipe_runtime_of_mine"}))
    assert functions(described(error))[-1] == "<module>"


def test_import_system_is_cut_on_top_only() -> None:
    top = {"__name__": "importlib._bootstrap"}
    exec(compile("def load(call): call()", "<frozen importlib._bootstrap>", "exec"), top)
    user: dict[str, Any] = {"__name__": "index"}
    exec("def handler(): load(fail)\ndef fail(): 1/0", user)
    user["load"] = top["load"]
    error = raised(lambda: top["load"](user["handler"]))  # type: ignore[operator]
    # The test's own two frames stand for the frames of the serving loop.
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals["__name__"] == __name__:
        traceback = traceback.tb_next
    assert functions(described(error.with_traceback(traceback))) == ["handler", "load", "fail"]


def test_syntax_error_names_the_offending_line() -> None:
    answer = described(raised(lambda: compile("x = 1\ny = (\n", "/code/index.py", "exec")))
    assert answer["error_type"] == "SyntaxError"
    assert answer["stack"][-1] == ["/code/index.py", 2, "<module>", "y = ("]
    assert described(SyntaxError("bare"))["stack"] == []
    odd = SyntaxError("odd", ("/code/x.py", 7, 1, None))
    assert described(odd)["stack"] == [["/code/x.py", 7, "<module>", ""]]


def test_fault_brings_its_own_place() -> None:
    fault = Fault("Runtime.UserCodeSyntaxError", "Syntax error", ["a.py", 3, "<module>", "x ="])
    assert described(fault)["stack"] == [["a.py", 3, "<module>", "x ="]]


def test_recursion_keeps_both_ends() -> None:
    answer = run("def f(n):\n  if n: f(n - 1)\n  else: 1/0\ndef start(): f(298)\nstart()")
    stack = answer["stack"]
    assert len(stack) == 101
    # Two frames of this file, the module, start(), and 299 times f().
    assert stack[50] == ["", 0, "… 203 more frames …", ""]
    assert functions(answer)[2:5] == ["<module>", "start", "f"]
    assert [entry[1] for entry in stack[-3:]] == [2, 2, 3]


def test_recursion_error() -> None:
    answer = run("def f(): f()\nf()")
    assert answer["error_type"] == "RecursionError"
    assert len(answer["stack"]) == 101 and "more frames" in answer["stack"][50][2]


def test_exactly_as_many_frames_as_are_kept_have_no_marker() -> None:
    answer = run("def f(n):\n  if n: f(n - 1)\n  else: 1/0\nf(96)")
    assert len(answer["stack"]) == 100 and "…" not in "".join(functions(answer))


# Causes and groups


def test_cause_and_context() -> None:
    explicit = run("try: 1/0\nexcept Exception as e: raise ValueError('b') from e")
    assert (explicit["error_type"], explicit["cause"]["error_type"]) == ("ValueError", "ZeroDivisionError")
    assert explicit["cause"]["stack"][-1][:2] == ["/code/index.py", 1]
    implicit = run("try: 1/0\nexcept Exception: raise ValueError('b')")
    assert implicit["cause"]["error_type"] == "ZeroDivisionError"
    suppressed = run("try: 1/0\nexcept Exception: raise ValueError('b') from None")
    assert "cause" not in suppressed
    both = run("try: 1/0\nexcept Exception: raise ValueError('b') from KeyError('c')")
    assert both["cause"]["error_type"] == "KeyError"


def test_chain_is_bounded_and_cycles_end() -> None:
    chain: list[BaseException] = [ValueError(str(number)) for number in range(20)]
    for outer, inner in zip(chain[:-1], chain[1:], strict=True):
        outer.__cause__ = inner
    node, length = described(chain[0]), 0
    while "cause" in node:
        node, length = node["cause"], length + 1
    assert length == faults.CAUSES
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__cause__ = two, one
    assert "cause" not in described(one)["cause"]


class Group(Exception):
    """A group like that of the backport for Python 3.10, which has its members in an attribute."""

    def __init__(self, message: str, exceptions: Any) -> None:
        super().__init__(message)
        self.exceptions = exceptions


def group_classes() -> list[Any]:
    native = getattr(builtins, "BaseExceptionGroup", None)
    return [Group] if native is None else [Group, native]


@pytest.mark.parametrize("group", group_classes())
def test_group(group: Any) -> None:
    members = [ValueError("1"), group("inner", [KeyError("2")]), SystemExit(3)]
    answer = described(group("several", members))
    names = [member["error_type"] for member in answer["exceptions"]]
    # BaseExceptionGroup makes an ExceptionGroup of members that are Exceptions.
    assert names == ["ValueError", type(members[1]).__name__, "SystemExit"]
    assert answer["exceptions"][1]["exceptions"][0]["error_message"] == "'2'"


@pytest.mark.parametrize("group", group_classes())
def test_group_is_bounded_in_width_depth_and_total(group: Any) -> None:
    wide = described(group("wide", [ValueError(str(number)) for number in range(40)]))
    assert len(wide["exceptions"]) == faults.GROUP_WIDTH
    deep: BaseException = ValueError("bottom")
    for _ in range(10):
        deep = group("level", [deep])
    node, levels = described(deep), 0
    while "exceptions" in node:
        node, levels = node["exceptions"][0], levels + 1
    assert levels == faults.GROUP_DEPTH

    def bush(depth: int) -> BaseException:
        return group("bush", [bush(depth - 1) for _ in range(16)]) if depth else ValueError("leaf")

    def count(node: dict[str, Any]) -> int:
        return 1 + sum(count(member) for member in node.get("exceptions", []))

    assert count(described(bush(3))) <= faults.NODES


def test_exceptions_attribute_that_is_no_list_of_exceptions() -> None:
    for odd in ("text", 3, None, [1, "a"], iter([ValueError()])):
        assert "exceptions" not in described(Group("odd", odd))


# Fitting


def deep(text: str, calls: int, **more: Any) -> BaseException:
    """Return an exception whose stack has this many calls of the function's, each with a long name."""
    name = "f" * 500
    error: Any = Group(text, more.get("members", []))
    error.__cause__ = more.get("cause")
    source = f"def {name}(n):\n  if n: {name}(n - 1)\n  raise error\n{name}({calls})"
    variables = {"__name__": "index", "error": error}
    return raised(lambda: exec(compile(source, "/code/index.py", "exec"), variables))


def test_members_are_lost_before_causes_and_causes_before_frames() -> None:
    few = described(deep("root", 60, cause=ValueError("c"), members=[ValueError("m" * 4000) for _ in range(16)]))
    assert 0 < len(few["exceptions"]) < 16 and "cause" in few and len(few["stack"]) > 60
    none = described(deep("root", 80, cause=ValueError("c"), members=[ValueError("m" * 8000) for _ in range(16)]))
    assert "exceptions" not in none or len(none["exceptions"]) == 1
    assert "cause" in none and len(none["stack"]) > 80
    chain: BaseException | None = None
    for number in range(8):
        chain = deep(str(number) + "c" * 8000, 60, cause=chain)
    short = described(deep("root", 80, cause=chain))
    assert len(short["stack"]) > 80


@pytest.mark.parametrize(("stack", "causes"), [(1, 2), (60, 1)])
def test_long_chain_keeps_as_many_causes_as_fit(stack: int, causes: int) -> None:
    chain: BaseException | None = None
    for _ in range(8):
        chain = deep("c" * 9000, 1, cause=chain)
    node, length = described(deep("root" * 2000, stack, cause=chain)), 0
    while "cause" in node:
        node, length = node["cause"], length + 1
    assert length == causes


def test_marker_counts_all_that_is_gone_from_a_stack_that_does_not_fit() -> None:
    name = "f" * 1000
    answer = run(f"def {name}(n):\n  if n: {name}(n - 1)\n  else: 1/0\n{name}(296)")
    kept = [entry for entry in answer["stack"] if entry[0]]
    assert len(kept) < 100
    # The test's own two calls, the module, and 297 times the function.
    assert functions(answer)[len(kept) // 2] == f"… {300 - len(kept)} more frames …"


long_texts = st.sampled_from("éx\udc80").map(lambda character: character * 20_000)
texts = st.text(st.characters(), max_size=30) | long_texts


def build(parts: Any) -> BaseException:
    text, file, depth, cause, members = parts
    error: BaseException = Group(text, [build(member) for member in members])
    error.__cause__ = build(cause) if cause is not None else None
    source = "def f(n):\n  if n: f(n - 1)\n  raise error\nf(depth)"
    code = compile(source, file, "exec")
    return raised(lambda: exec(code, {"__name__": "index", "error": error, "depth": depth}))


files = st.sampled_from(["index.py", "/long", "\udc80"]).map(lambda name: name if name == "index.py" else name * 1000)
leaves = st.tuples(texts, files, st.integers(0, 150), st.none(), st.just([]))
trees = st.recursive(
    leaves,
    lambda inner: st.tuples(
        texts,
        files,
        st.integers(0, 150),
        st.none() | inner,
        # Repeat a member only at the ends: many repetitions of many would take minutes to build.
        st.lists(inner, max_size=3) | leaves.map(lambda leaf: [leaf] * 20),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=25)
@given(trees)
def test_every_structure_fits(parts: Any) -> None:
    answer = described(build(parts))
    assert answer["error_type"] == "Group"


# Exceptions that cannot be read


def refuse(*args: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


def evil_classes() -> dict[str, type[BaseException]]:
    class Text(ValueError):
        def __str__(self) -> str:
            raise SystemExit

    class Odd(ValueError):
        def __str__(self) -> str:
            return 3  # type: ignore[return-value]

    class Endless(RecursionError):
        def __str__(self) -> str:
            return str(self)

    class Attributes(ValueError):
        __class__ = __traceback__ = __cause__ = property(refuse)  # type: ignore[assignment]
        __context__ = __suppress_context__ = args = property(refuse)  # type: ignore[assignment]
        exceptions = __notes__ = __dict__ = property(refuse)  # type: ignore[assignment]

    class Access(ValueError):
        __getattribute__ = __getattr__ = refuse

    class Meta(type):
        # Without __subclasscheck__: if that raised, Python itself could not raise the exception.
        __getattribute__ = __instancecheck__ = refuse
        __name__ = property(refuse)  # type: ignore[assignment]

    class Named(ValueError, metaclass=Meta):
        pass

    classes = (Text, Odd, Endless, Attributes, Access, Named)
    names = ("Text", "Odd", "Endless", "Attributes", "Access", "Named")
    return dict(zip(names, classes, strict=True))


@pytest.mark.parametrize("name", sorted(evil_classes()))
def test_exception_that_cannot_be_read_is_an_answer(name: str) -> None:
    error = evil_classes()[name]()
    caught = raised(lambda: exec("raise error", {"__name__": "index", "error": error}))
    outer = ValueError("outer")
    outer.__cause__ = caught
    assert described(caught)["error_type"] in (name, "BaseException")
    assert described(outer)["error_message"] == "outer"
    assert described(Group("g", [caught]))["error_message"] == "g"


@pytest.mark.parametrize("name", ["Text", "Odd", "Endless"])
def test_exception_whose_text_fails_keeps_its_stack_and_its_cause(name: str) -> None:
    error = evil_classes()[name]()
    error.__cause__ = ValueError("cause")
    answer = described(raised(lambda: exec("raise error", {"__name__": "index", "error": error})))
    assert answer["error_type"] == name
    assert functions(answer)[-1] == "<module>"
    assert answer["cause"]["error_message"] == "cause"


def careless_classes() -> dict[str, type[BaseException]]:
    class Delegating(Exception):
        def __getattr__(self, name: str) -> object:
            return getattr(self.response, name)  # there is no such attribute, so this calls itself

    class Keyed(Exception):
        def __getattr__(self, name: str) -> object:
            raise KeyError(name)

    return {**evil_classes(), "Delegating": Delegating, "Keyed": Keyed}


@pytest.mark.parametrize("name", sorted(careless_classes()))
def test_attribute_that_raises_costs_no_stack_no_cause_and_no_group(name: str) -> None:
    error = careless_classes()[name]()
    variables: dict[str, Any] = {"error": error}
    answer = run("def fail():\n  try: 1/0\n  except Exception: raise error\nfail()", **variables)
    assert answer["error_type"] == name
    assert functions(answer)[-1] == "fail"
    assert answer["cause"]["error_type"] == "ZeroDivisionError"
    outer = run("try: raise error\nexcept BaseException as cause: raise ValueError('outer') from cause", **variables)
    assert (outer["error_message"], functions(outer)[-1]) == ("outer", "<module>")
    assert outer["cause"]["error_type"] == name and outer["cause"]["stack"]
    group = described(Group("several", [KeyError("first"), error, KeyError("last")]))
    assert [member["error_type"] for member in group["exceptions"]] == ["KeyError", name, "KeyError"]


def test_note_that_cannot_be_read_costs_this_note_only() -> None:
    class Note:
        __str__ = refuse

    answer = run("error = ValueError('wrong')\nerror.__notes__ = notes\nraise error", notes=["first", Note(), "last"])
    assert answer["error_message"] == "wrong\nfirst\nlast"
    assert functions(answer)[-1] == "<module>"


@pytest.mark.parametrize(
    "place",
    [("x.py", "odd", 1, "text"), ("x.py", -(2**80), 1, "text"), (Path("x.py"), 3, 1, None), (b"x.py", 3, 1, "")],
)
def test_syntax_error_with_an_odd_place_keeps_its_stack(place: tuple[Any, ...]) -> None:
    answer = run("try: 1/0\nexcept Exception: raise SyntaxError('odd', place)", place=place)
    assert answer["error_type"] == "SyntaxError"
    assert answer["stack"][-1][:2] == ["/code/index.py", 2]
    assert answer["cause"]["error_type"] == "ZeroDivisionError"


@pytest.mark.parametrize("name", sorted(careless_classes()))
def test_careless_exception_of_an_encoder_is_a_fault(name: str) -> None:
    class Answer:
        def to_json(self) -> None:
            raise careless_classes()[name]

    error = raised(lambda: codec.encode_result(Answer(), "application/json"))
    assert described(error)["error_type"] == "Runtime.MarshalError"


def test_module_whose_name_cannot_be_read_cannot_replace_the_fault_of_an_encoder() -> None:
    class Name:
        __str__ = refuse

    space: dict[str, Any] = {"__name__": "index", "name": Name()}
    exec("class Answer:\n  def to_json(self):\n    globals()['__name__'] = name\n    raise ValueError", space)
    error = raised(lambda: codec.encode_result(space["Answer"](), "application/json"))
    assert described(error)["error_type"] == "Runtime.MarshalError"


def test_text_that_cannot_be_read_says_so() -> None:
    failed = "its text could not be read: __str__ raised "
    assert described(evil_classes()["Text"]())["error_message"] == failed + "SystemExit"
    assert described(evil_classes()["Odd"]())["error_message"] == failed + "TypeError"


def test_nearly_exhausted_stack_still_gives_the_class() -> None:
    """Check with more and more room below the recursion limit: first the last resort, at last the full answer."""
    error = raised(lambda: 1 / 0)
    answers: list[dict[str, Any]] = []

    def dive(describe: Any) -> None:
        try:
            dive(describe)
        except RecursionError:
            pass
        else:
            return
        # On the way up, each frame has room for one more call.
        if len(answers) < 40:
            try:
                answers.append(describe(error))
            except RecursionError:
                # There was not even room for the call of describe() itself.
                assert not answers
        if len(answers) < 40:
            raise RecursionError

    dive(faults.describe)
    names = [answer["error_type"] for answer in answers]
    # Without room for even a built-in call, the name is lost too.
    assert set(names[2:]) == {"ZeroDivisionError"}
    assert set(names[:2]) <= {"ZeroDivisionError", "BaseException"}
    assert answers[0]["error_message"] == faults.UNREADABLE
    assert answers[-1]["error_message"] == "division by zero"


def test_linecache_that_fails_costs_the_source_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linecache, "getline", refuse)
    answer = described(raised(lambda: 1 / 0))
    assert answer["error_message"] == "division by zero"
    assert all(entry[3] == "" for entry in answer["stack"])
