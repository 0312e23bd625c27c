"""Tests that the function's modules and the runtime's do not mix. Each case runs in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pipe_runtime
from pipe_testing.environment import unmeasured
from pipe_testing.patience import HANGS

PRELUDE = """\
import sys
baseline = set(sys.modules)
CODE = {code!r}
from pipe_runtime import namespace
"""
MINE = "MINE = True\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


def run(code: Path, body: str) -> str:
    """Return what `body` prints in a new interpreter that has imported namespace. Its errors fail the test."""
    links = code.parent / "site"
    links.mkdir(exist_ok=True)
    link = links / "pipe_runtime"
    if not link.exists():
        link.symlink_to(Path(pipe_runtime.__file__).resolve().parent)
    # The code is a file, as the runtime is. With -c the interpreter itself may import linecache first.
    script = links / "script.py"
    script.write_text(PRELUDE.format(code=str(code)) + textwrap.dedent(body))
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=code.parent, timeout=HANGS, env=unmeasured())
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(code: Path, **modules: str) -> None:
    for name, text in modules.items():
        (code / f"{name}.py").write_text(text)


@pytest.mark.parametrize("name", "token types json enum re linecache functools keyword".split())
def test_the_runtime_gets_the_standard_library_and_the_function_its_own(code: Path, name: str) -> None:
    write(code, **{name: MINE})
    run(
        code,
        f"""
        namespace.prepare(CODE, [], baseline, "index.handler")
        traceback = namespace.stdlib("traceback")
        assert traceback.format_exception_only(ValueError("x")) == ["ValueError: x\\n"]
        own = namespace.stdlib("{name}")
        assert not hasattr(own, "MINE"), own
        import {name}
        assert {name}.MINE and sys.modules["{name}"] is {name} and {name}.__file__.startswith(CODE)
        assert namespace.stdlib("{name}") is own
        """,
    )


def test_what_the_function_has_imported_already_stays_its_own(code: Path) -> None:
    (code / "json").mkdir()
    (code / "json" / "__init__.py").write_text(MINE)
    (code / "json" / "decoder.py").write_text(MINE)
    run(
        code,
        """
        namespace.prepare(CODE, [], baseline, "index.handler")
        import json.decoder
        theirs = sys.modules["json"], sys.modules["json.decoder"]
        own = namespace.stdlib("json")
        assert own.loads("[1]") == [1] and own is not theirs[0]
        assert (sys.modules["json"], sys.modules["json.decoder"]) == theirs
        assert "json.scanner" not in sys.modules and "json.encoder" not in sys.modules
        from json import decoder
        assert decoder.MINE
        """,
    )


def test_a_folder_put_on_the_path_later(code: Path) -> None:
    (code / "vendor").mkdir()
    (code / "vendor" / "token.py").write_text(MINE)
    run(
        code,
        """
        namespace.prepare(CODE, [], baseline, "index.handler")
        sys.path.insert(0, CODE + "/vendor")
        assert namespace.stdlib("tokenize").tokenize
        import token
        assert token.MINE
        """,
    )


def test_a_second_import_reuses_the_private_copy(code: Path) -> None:
    write(code, token=MINE)
    run(
        code,
        """
        namespace.prepare(CODE, [], baseline, "index.handler")
        namespace.stdlib("tokenize")
        first = namespace.stdlib("token")
        import token
        with namespace.own_library:
            import token as again
        assert again is first and token is not first and sys.modules["token"] is token
        """,
    )


def test_without_a_clash_module_and_function_share_one_copy(code: Path) -> None:
    run(
        code,
        """
        namespace.prepare(CODE, [], baseline, "index.handler")
        path, finders = list(sys.path), list(sys.meta_path)
        own = namespace.stdlib("decimal")
        import decimal
        assert own is decimal
        assert namespace.stdlib("importlib.machinery") is sys.modules["importlib.machinery"]
        assert (sys.path, sys.meta_path) == (path, finders)
        """,
    )


def test_neither_the_functions_packages_nor_its_finders_are_asked(code: Path) -> None:
    # copy and pickle try to import an optional org.python.core, and the function may have a folder `org`.
    (code / "org").mkdir()
    (code / "org" / "__init__.py").write_text("raise SystemExit('the function ran')\n")
    run(
        code,
        """
        namespace.prepare(CODE, [], baseline, "index.handler")
        class Finder:
            def find_spec(self, name, path=None, target=None):
                raise SystemExit(f"asked for {name}")
        sys.meta_path.insert(0, Finder())
        namespace.stdlib("pickle")
        try:
            namespace.stdlib("no_such_module")
        except ModuleNotFoundError as error:
            assert error.name == "no_such_module"
        else:
            raise SystemExit("found what does not exist")
        assert type(sys.meta_path[0]) is Finder and "org" not in sys.modules
        """,
    )


def test_a_failed_import_restores_everything(code: Path) -> None:
    write(code, token=MINE)
    run(
        code,
        """
        namespace.prepare(CODE, [], baseline, "index.handler")
        import token
        finders = list(sys.meta_path)
        for _ in range(2):
            try:
                namespace.stdlib("json.no_such")
            except ModuleNotFoundError:
                assert sys.modules["token"] is token and sys.meta_path == finders
            else:
                raise SystemExit("found what does not exist")
        """,
    )


def test_other_threads_find_their_own_meanwhile(code: Path) -> None:
    write(code, queue=MINE)
    run(
        code,
        """
        import _thread
        namespace.prepare(CODE, [], baseline, "index.handler")
        done = _thread.allocate_lock()
        done.acquire()
        seen = []
        def other():
            try:
                import queue
                seen.append(queue.MINE)
            finally:
                done.release()
        with namespace.own_library:
            _thread.start_new_thread(other, ())
            done.acquire()
        import queue
        assert seen == [True] and queue.MINE
        assert not hasattr(namespace.stdlib("queue"), "MINE")
        import queue
        assert queue.MINE
        """,
    )


def test_many_threads_at_once(code: Path) -> None:
    write(code, token=MINE, types=MINE, enum=MINE)
    run(
        code,
        """
        import _thread
        namespace.prepare(CODE, [], baseline, "index.handler")
        names = ["inspect", "traceback", "decimal", "token", "types", "enum", "logging", "json"]
        results, locks = [], []
        def work(order, lock):
            results.append({name: namespace.stdlib(name) for name in order})
            lock.release()
        for turn in range(8):
            lock = _thread.allocate_lock()
            lock.acquire()
            locks.append(lock)
            _thread.start_new_thread(work, (names[turn:] + names[:turn], lock))
        for lock in locks:
            lock.acquire()  # the whole script has a time limit
        assert len(results) == 8 and all(result == results[0] for result in results)
        import token, types, enum
        assert token.MINE and types.MINE and enum.MINE
        """,
    )


def test_a_fork_waits_for_the_import_of_another_thread(code: Path) -> None:
    write(code, token=MINE)
    out = run(
        code,
        """
        import _thread, os
        namespace.prepare(CODE, [], baseline, "index.handler")
        import token
        entered, leave = _thread.allocate_lock(), _thread.allocate_lock()
        entered.acquire(); leave.acquire()
        def importer():
            with namespace.own_library:
                entered.release()
                leave.acquire()
        _thread.start_new_thread(importer, ())
        entered.acquire()
        assert "token" not in sys.modules
        os.register_at_fork(before=leave.release)  # runs before our own, which then waits for the thread
        pid = os.fork()
        if not pid:
            ours = namespace.stdlib("token")
            os._exit(0 if sys.modules.get("token") is token and ours is not token else 1)
        print(os.waitpid(pid, 0)[1])
        """,
    )
    assert out == "0\n"


def test_prepare_gives_path_argv_and_main(code: Path, tmp_path: Path) -> None:
    run(
        code,
        f"""
        rest = list(sys.path)
        import __main__ as ours
        namespace.prepare(CODE, [{str(tmp_path)!r} + "/layer"], baseline, "index.handler")
        assert sys.path == [CODE, {str(tmp_path)!r} + "/layer", *rest], sys.path
        assert sys.argv == ["index.handler"]
        import __main__
        assert __main__ is not ours and not hasattr(__main__, "baseline")
        assert not hasattr(__main__, "__file__")
        assert __main__.__spec__ is None and eval("len('ab')", vars(__main__)) == 2
        assert baseline and namespace
        """,
    )


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ("python/lib/{version}/site-packages python", "python/lib/{version}/site-packages python"),
        ("python/lib/{version}/site-packages", "python/lib/{version}/site-packages python"),
        ("python/lib/python3.2/site-packages", "python"),
        ("python", "python"),
        ("lib/{version}/site-packages", ""),
        ("", ""),
    ],
)
def test_the_folders_of_a_layer(code: Path, tmp_path: Path, there: str, found: str) -> None:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    layers = [tmp_path / "one", tmp_path / "two"]
    for layer in layers:
        layer.mkdir()
    for folder in there.format(version=version).split():
        (layers[0] / folder).mkdir(parents=True, exist_ok=True)
    expected = [str(layers[0] / folder) for folder in found.format(version=version).split()] or [str(layers[0])]
    run(
        code,
        f"""
        rest = list(sys.path)
        namespace.prepare(CODE, {[str(layer) for layer in layers]!r}, baseline, "index.handler")
        assert sys.path == [CODE, *{expected!r}, {str(layers[1])!r}, *rest], sys.path
        """,
    )


def test_a_layers_python_that_is_a_file(code: Path, tmp_path: Path) -> None:
    (tmp_path / "python").touch()
    run(
        code,
        f"""
        namespace.prepare(CODE, [{str(tmp_path)!r}], baseline, "index.handler")
        assert sys.path[:2] == [CODE, {str(tmp_path)!r}]
        """,
    )


def test_path_files_of_a_layer_are_not_run(code: Path, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    packages = layer / "python" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    packages.mkdir(parents=True)
    for folder in (packages, layer / "python"):
        (folder / "more.pth").write_text("import sys; sys.exit('run')\n/elsewhere\n")
    run(
        code,
        f"""
        namespace.prepare(CODE, [{str(layer)!r}], baseline, "index.handler")
        assert "/elsewhere" not in sys.path
        """,
    )


def test_a_layer_shadows_what_the_runtime_brought(code: Path, tmp_path: Path) -> None:
    (tmp_path / "layer" / "python" / "msgpack").mkdir(parents=True)
    (tmp_path / "layer" / "python" / "msgpack" / "__init__.py").write_text(MINE)
    run(
        code,
        f"""
        import msgpack
        ours = msgpack
        namespace.prepare(CODE, [{str(tmp_path)!r} + "/layer"], baseline, "index.handler")
        import msgpack
        assert msgpack.MINE and ours.unpackb(ours.packb([1])) == [1]
        """,
    )


def test_msgpack_of_the_functions_own_and_ours_both_work(code: Path) -> None:
    (code / "msgpack").mkdir()
    (code / "msgpack" / "__init__.py").write_text(MINE)
    (code / "msgpack" / "exceptions.py").write_text(MINE)
    write(code, datetime=MINE, struct=MINE)
    run(
        code,
        """
        import msgpack, datetime, struct
        ours = msgpack
        namespace.prepare(CODE, [], baseline, "index.handler")
        assert not [name for name in sys.modules if name.split(".")[0] in ("msgpack", "datetime", "struct")]
        import msgpack, datetime, struct, msgpack.exceptions
        assert msgpack.MINE and datetime.MINE and struct.MINE and msgpack.exceptions.MINE
        when = namespace.stdlib("datetime").datetime(2026, 1, 31, 12)
        when = when.replace(tzinfo=namespace.stdlib("datetime").timezone.utc)
        packed = ours.packb({"a": [1, b"x", when]}, datetime=True)
        assert ours.unpackb(packed, timestamp=3) == {"a": [1, b"x", when]}
        expected = {b"\\x92\\x01": ValueError, b"\\x01\\x01": ours.ExtraData, b"\\xc1": ours.FormatError}
        for broken, error in expected.items():
            try:
                ours.unpackb(broken)
            except error:
                continue
            raise SystemExit(f"no {error}")
        unpacker = ours.Unpacker()
        unpacker.feed(b"\\x92\\x01")
        try:
            unpacker.unpack()
        except ours.OutOfData:
            pass
        assert sys.modules["msgpack"] is msgpack
        """,
    )


def test_the_same_file_in_a_layer_is_left_alone(code: Path, tmp_path: Path) -> None:
    run(
        code,
        f"""
        import os, msgpack, datetime
        layer = {str(tmp_path)!r} + "/layer"
        os.mkdir(layer)
        os.symlink(os.path.dirname(msgpack.__file__), layer + "/msgpack")
        kept = {{name: module for name, module in sys.modules.items() if name.startswith("msgpack")}}
        namespace.prepare(CODE, [layer], baseline, "index.handler")
        assert {{name: module for name, module in sys.modules.items() if name.startswith("msgpack")}} == kept
        assert sys.modules["datetime"] is datetime
        """,
    )


def test_what_cannot_shadow_is_left_alone(code: Path) -> None:
    (code / "msgpack").mkdir()  # no __init__.py
    write(code, time=MINE, os=MINE, __main__="raise SystemExit('ran')\n")
    run(
        code,
        """
        import msgpack, time, os
        namespace.prepare(CODE, [], baseline, "index.handler")
        assert sys.modules["msgpack"] is msgpack and sys.modules["time"] is time and sys.modules["os"] is os
        assert "__main__" in sys.modules
        """,
    )


def test_nothing_is_imported_while_looking(code: Path) -> None:
    write(code, msgpack="raise SystemExit('imported')\n", traceback="raise SystemExit('imported')\n")
    run(
        code,
        """
        import msgpack
        namespace.prepare(CODE, [], baseline, "index.handler")
        namespace.stdlib("traceback")
        """,
    )


def test_spawned_children_of_the_function_start(code: Path) -> None:
    write(code, work="def double(n):\n    return 2 * n\n")
    out = run(
        code,
        """
        namespace.prepare(CODE, [], baseline, "index.handler")
        import multiprocessing, work
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            print(pool.map(work.double, [1, 2]))
        from multiprocessing import resource_tracker
        resource_tracker._resource_tracker._stop()  # else it outlives this process for a moment
        """,
    )
    assert out == "[2, 4]\n"


def test_the_module_imports_nothing_that_a_bare_interpreter_lacks(code: Path) -> None:
    out = run(code, "print(sorted(set(sys.modules) - baseline))")
    assert out == "['__future__', 'pipe_runtime', 'pipe_runtime.namespace']\n"
