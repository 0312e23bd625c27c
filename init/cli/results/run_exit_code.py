"""Choose the exit code of `pipe-init run` from the outcomes of its events."""

from __future__ import annotations

from collections.abc import Collection

from ...kernel import exit_codes as codes
from ...model import Metadata, Outcome

ENDING_CODES = (codes.USAGE, codes.NOT_LOADED, codes.PROTOCOL, codes.NOT_EXECUTABLE, codes.NOT_FOUND)
"""Exit codes that end a run. If one event has such a code, every further event would fail in the same way."""


def response_status(http: Metadata) -> int:
    """Return the HTTP status of a result; 500 if it is not a number of three digits.

    Args:
        http: The map `http` of RESULT (docs/protocol.md).
    """
    status = http.get("status")
    return status if type(status) is int and 100 <= status <= 999 else 500


def exit_code(outcome: Outcome) -> int:
    """Return an outcome's exit code. An HTTP status of 500 or more is a failure of the function."""
    if outcome.exit_code or outcome.http is None:
        return outcome.exit_code
    return codes.FUNCTION_FAILED if response_status(outcome.http) >= 500 else 0


def kind_of_failure(outcome: Outcome) -> str:
    """Return the type of an outcome's error, or `HTTP` and a status of 500 or more; "" if the outcome is no failure."""
    if outcome.problem is not None:
        return str(outcome.problem.get("error_type", "")) or "unknown"
    if outcome.http is None or not exit_code(outcome):
        return ""
    return f"HTTP {response_status(outcome.http)}"


def worst(found: Collection[int]) -> int:
    """Return the exit code of a run of many events: the worst of its events' codes.

    The order, from the worst: the codes of ENDING_CODES, out of memory, death by a signal, a timeout, other failures.

    Args:
        found: The exit codes of the events.
    """
    ranked = (*ENDING_CODES, codes.OUT_OF_MEMORY, *range(129, 256), codes.TIMED_OUT)
    return next((code for code in ranked if code in found), max(found, default=0))
