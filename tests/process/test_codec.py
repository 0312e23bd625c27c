"""Tests of the codec in an interpreter that lacks a part of the standard library."""

from __future__ import annotations

import subprocess
import sys

from pipe_testing.environment import unmeasured


def test_without_the_c_half_of_json() -> None:
    code = """
import json.encoder, json.scanner, json.decoder
json.encoder.c_make_encoder = None
json.decoder.scanner.make_scanner = json.scanner.py_make_scanner
from pipe_runtime.call import codec
codec.warm_up("application/json", "application/json")
value = codec.decode_event(b' {"a": [1, 2.5, null, "\\u00e4"]} ', "application/json")
print(ascii(codec.encode_result(value, "application/json")))
value["a"].append(value)
try:
    codec.encode_result(value, "application/json")
except Exception as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=unmeasured(), check=True, cwd="/")
    assert ended.stdout.decode().splitlines() == [
        """('application/json', b'{"a": [1, 2.5, null, "\\xc3\\xa4"]}')""",
        "Unable to marshal response: Circular reference detected: result.a[4]",
    ]
