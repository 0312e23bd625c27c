"""Tests of writing a text as a JSON record on one line."""

from __future__ import annotations

import json
import re

import pytest

from pipe_init.log.json_lines import json_line

ID = "b3d1c0de-0000-4000-8000-000000000001"
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class TestRawLine:
    @pytest.mark.parametrize(
        ("line", "message"),
        [(b"text", "text"), (b"", ""), (b'{"a": "\x1b"}', '{"a": "\x1b"}'), ("é\u2028".encode(), "é\u2028")],
    )
    def test_a_record_on_one_line(self, line: bytes, message: str) -> None:
        made = json_line(line, ID)
        assert b"\n" not in made
        entry = json.loads(made)
        assert MOMENT.fullmatch(entry.pop("timestamp"))
        assert entry == {"message": message, "requestId": ID}

    def test_bytes_that_are_no_text(self) -> None:
        assert json.loads(json_line(b"\xff\x00", ID))["message"] == "\\xff\x00"

    def test_of_no_request(self) -> None:
        assert set(json.loads(json_line(b"x", ""))) == {"timestamp", "message"}
