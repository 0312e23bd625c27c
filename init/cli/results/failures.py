"""Tell the user about failed outcomes: the error itself, the source lines of its stack, and a hint what to do.

This file knows the options that decide about that, and terminals. It knows nothing of workers. An error's texts came
from a hostile process.
"""

from __future__ import annotations

import os

import click

from ...log.error_formats import error_object, error_text, logged
from ...log.journal import ERROR, INFO, Journal
from ...log.json_lines import to_line
from ...model import Function, Outcome
from ..options.run_options import RunOptions
from .terminal import for_stderr, is_terminal, wants_colour

MAX_HINTED = 100
"""Failed events of a run for which a hint is sought. Later events most likely fail for the same reasons."""


class Failures:
    """Tell the user about the failed outcomes of one run.

    Args:
        options: The options of the run.
        function: The function that runs.
        journal: The log, on stderr.
    """

    def __init__(self, options: RunOptions, function: Function, journal: Journal) -> None:
        self._options = options
        self._journal = journal
        self._is_json = function.hello.get("log_format") == "json"
        self._folders = [function.hello["code_dir"], *function.hello.get("layers", [])]
        self._hints: set[str] = set()
        self._hinted = 0

    def find_source(self, outcome: Outcome) -> None:
        """Add source lines to the calls of a stack that has only files and line numbers."""
        if outcome.problem is not None:
            from .source_lines import with_source  # a run without errors does not need it

            outcome.problem = with_source(outcome.problem, [os.path.abspath(folder) for folder in self._folders])

    def show(self, outcome: Outcome) -> None:
        """Write the error of an outcome to the log, in the style that the options ask for."""
        self.find_source(outcome)
        style, failure = self._options.error_style, outcome.problem or {}
        if style == "text" or (style == "auto" and is_terminal(2) and not self._is_json):
            text = error_text(failure).rstrip("\n")
        else:
            error = error_object("fc" if style == "fc" else "lambda", failure, outcome.request_id)
            text = to_line(logged(error) if self._is_json else error).decode()
        text = for_stderr(text)
        if text.startswith("{"):
            self._journal.say(text)
        else:
            coloured = wants_colour(2) and not self._is_json
            self._journal.tell(click.style(text, fg="red") if coloured else text, ERROR, outcome.request_id)

    def hint(self, outcome: Outcome) -> None:
        """Write what to do about an outcome's error, if that is known. Each hint is written once."""
        options, problem = self._options, outcome.problem
        if problem is None or options.quiet or self._hinted >= MAX_HINTED:
            return
        self._hinted += 1
        from .hints import hint  # a run without errors does not need it

        text = hint(problem, options)
        if text and text not in self._hints:
            self._hints.add(text)
            self._journal.tell(for_stderr(f"pipe-init: hint: {text}"), INFO)
