"""Tests of docs/protocol.md against the code: its tables, diagrams, limits, and the conversation that it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipe_runtime.wire import connection, frames, messages
from pipe_runtime.wire.connection import END_OF_STREAM, EOF, FATAL, INIT, RUNTIME, TRANSITIONS, Connection
from pipe_runtime.wire.frames import Frame
from pipe_runtime.wire.messages import FIELDS, HELLO, NAMES, REQUIRED
from pipe_testing.conversation import streams, turns

HERE = Path(__file__).parents[1]
DOCUMENT = (HERE.parent / "docs" / "protocol.md").read_text(encoding="utf-8")
TYPES = {int: "uint", str: "str", bool: "bool", list: "array", dict: "map"}
STEPS = {**NAMES, EOF: "EOF", FATAL: "FATAL"}


def section(title: str) -> str:
    """Return the text below a heading of any level, up to the next heading."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", DOCUMENT, re.M | re.S)
    assert found, f"no section {title}"
    return found[1]


def table(text: str) -> list[list[str]]:
    """Return the cells of the first table in a text, without its first two lines."""
    rows = []
    for line in text.splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]


def test_kinds_and_numbers() -> None:
    assert {int(row[1]): row[0] for row in table(section("Kinds"))} == NAMES


@pytest.mark.parametrize("role", [INIT, RUNTIME])
def test_senders(role: str) -> None:
    senders = {row[0] for row in table(section("Kinds")) if row[2] in (role, "both")}
    steps = {STEPS[step] for allowed in TRANSITIONS[role].values() for step in allowed}
    assert senders == steps - {"EOF", "FATAL"}


@pytest.mark.parametrize("kind", FIELDS, ids=NAMES.get)
def test_fields(kind: int) -> None:
    text = section(NAMES[kind])
    rows = {row[0].strip("`"): (row[1], row[3]) for row in table(text)}
    required = REQUIRED.get(kind, ())
    assert rows == {key: (TYPES[wanted], "yes" if key in required else "no") for key, wanted in FIELDS[kind].items()}
    assert all(row[4] for row in table(text))
    assert bool(rows) != ("No metadata." in text)


@pytest.mark.parametrize("kind", FIELDS, ids=NAMES.get)
def test_units(kind: int) -> None:
    units = {"us": "µs", "ms": "ms", "bytes": "bytes", "requests": "requests", "signal": "signal number"}
    for name, kind_of_value, unit, *_ in table(section(NAMES[kind])):
        if kind_of_value == "uint":
            assert unit, f"{name} has no unit"
            suffix = name.strip("`").rpartition("_")[2]
            assert unit.startswith(units.get(suffix, unit))


@pytest.mark.parametrize("role", [INIT, RUNTIME])
def test_state_diagram(role: str) -> None:
    diagram = DOCUMENT.partition(f"The {role}:\n")[2].partition("```mermaid\n")[2].partition("```")[0]
    drawn: dict[str, dict[str, str]] = {state: {} for state in re.findall(r"--> (\w+)", diagram)}
    for state, after, steps in re.findall(r"^ +(\w+) --> (\w+): (.+)$", diagram, re.M):
        for step in steps.split(", "):
            assert step not in drawn[state]
            drawn[state][step] = after
    assert drawn == {
        state: {STEPS[step]: after for step, after in allowed.items()} for state, allowed in TRANSITIONS[role].items()
    }


def test_limits() -> None:
    limits = "\n".join(" ".join(row) for row in table(section("Limits")))
    for number in (frames.MIN_HEAD, frames.MAX_HEAD, frames.MAX_FRAME, frames.MAX_DEPTH, frames.MAX_ITEMS):
        assert re.search(rf"\b{number:,}\b", limits)
    assert f"above {connection.MIN_MAX_FRAME:,}" in section("Limits")
    windows = " ".join(section("Windows").split())
    requests, size = connection.BASE_WINDOW_REQUESTS, connection.BASE_WINDOW_BYTES
    assert f"the window is {requests} request and {size:,} bytes" in windows
    hello = section("HELLO")
    assert f"{connection.MIN_MAX_FRAME:,} to {2**32 - 1:,}; absent: {frames.MAX_FRAME:,}" in hello
    assert f"absent: {size:,}" in hello
    assert f"| payload of a CHUNK | 1 to {connection.MAX_CHUNK:,} bytes |" in section("Limits")
    assert f"below {connection.MAX_CHUNK + connection.CHUNK_OVERHEAD:,}, the sender MUST" in section("Limits")
    assert section("CHUNK").startswith(f"\nThe payload of a CHUNK is 1 to {connection.MAX_CHUNK:,} bytes")
    assert f"| credit of a stream | 0 to {connection.MAX_CREDIT:,} bytes |" in section("Limits")
    assert f"begins with, see [Credit](#credit); at most {connection.MAX_CREDIT:,}; absent: 0" in hello
    assert f"above {connection.MAX_CREDIT:,} bytes" in section("Credit")
    assert f"# The protocol, version {messages.VERSION}\n" in DOCUMENT


def test_content_types() -> None:
    rows = {row[0].strip("`") for row in table(section("Content types"))}
    sequences = {messages.JSON_LINES, messages.MSGPACK_SEQUENCE}
    assert rows == {messages.JSON, messages.MSGPACK, messages.BYTES, messages.TEXT} | sequences
    assert f"`{messages.ANY}`" in section("Content types")


def test_hooks() -> None:
    hooks = {row[0].strip("`") for row in table(section("Hooks"))}
    assert hooks == {"initializer", "pre_stop", "pre_freeze"}
    assert hooks <= FIELDS[HELLO].keys()
    assert f"`{messages.PRE_FREEZE}`" in section("Hooks")


def test_what_the_runtime_drops() -> None:
    kinds = {NAMES[kind] for kind in connection.CROSSING}
    sentence = re.search(r"The init may have sent (.*?) before", " ".join(section("What ends a stream").split()))
    assert sentence
    assert set(re.findall(r"[A-Z]+", sentence[1])) == kinds


def test_drawing_is_that_of_the_code() -> None:
    def boxes(text: str) -> list[str]:
        return [line.strip() for line in text.splitlines() if re.match(r" +[+|]", line)]

    assert boxes(section("Frames")) == boxes(frames.__doc__ or "")


def test_links_lead_to_headings() -> None:
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", DOCUMENT, re.M)}
    links = re.findall(r"\]\(#([^)]+)\)", DOCUMENT)
    assert links
    assert set(links) <= anchors


def printed(title: str) -> list[tuple[str, str, bytes]]:
    """Return the conversation below this heading of the document."""
    return turns(DOCUMENT.partition(f"## {title}\n")[2].partition("```text\n")[2].partition("```")[0])


CONVERSATIONS = {
    "conversation": (
        "A whole conversation",
        "init HELLO, init INVOKE, runtime HELLO, runtime READY, runtime LOG, runtime RESULT, init INVOKE, "
        "runtime ERROR, init STOP, init EOF, runtime EOF",
    ),
    "streams": (
        "A conversation with streams",
        "init HELLO, init INVOKE, runtime HELLO, init CHUNK, runtime READY, runtime RESULT, runtime CHUNK, "
        "runtime CREDIT, init CHUNK, init END, init CREDIT, runtime CHUNK, runtime END, init INVOKE, runtime RESULT, "
        "runtime CHUNK, init CANCEL, runtime END, init STOP, init EOF, runtime EOF",
    ),
}
"""For each golden file: the heading in the document, and the sender and kind of each message in order."""


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_printed_conversation_is_the_golden_one(name: str) -> None:
    golden = (HERE / "data" / f"{name}.golden").read_text(encoding="utf-8")
    assert printed(CONVERSATIONS[name][0]) == turns(golden)
    assert f"`tests/data/{name}.golden`" in section(CONVERSATIONS[name][0])


@pytest.mark.parametrize(("title", "script"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_printed_conversation_replays_byte_for_byte(title: str, script: str) -> None:
    sides = {INIT: Connection(INIT), RUNTIME: Connection(RUNTIME)}
    said = []
    for sender, name, data in printed(title):
        said.append(f"{sender} {name}")
        reader = sides[sides[sender].peer]
        if name == "EOF":
            assert data == b""
            reader.receive(b"")
            assert reader.next_frame() is END_OF_STREAM
            continue
        for byte in data:
            assert reader.next_frame() is None
            reader.receive(bytes((byte,)))
        event = reader.next_frame()
        assert isinstance(event, Frame)
        assert NAMES[event.kind] == name
        assert sides[sender].send(event.kind, event.id, event.metadata, event.payload) == data
    assert ", ".join(said) == script
    for side in sides.values():
        assert side.next_frame() is None
        assert side.open_requests == {}
        assert streams(side) == {INIT: {}, RUNTIME: {}}


def test_printed_comments_say_the_lengths() -> None:
    for sort, start in (("frame length", 0), ("head length", 4)):
        said = [int(number) for number in re.findall(rf"\| {sort} (\d+)", DOCUMENT)]
        real = [
            int.from_bytes(data[start : start + 4], "big")
            for title, _ in CONVERSATIONS.values()
            for _, _, data in printed(title)
            if data
        ]
        assert said == real
