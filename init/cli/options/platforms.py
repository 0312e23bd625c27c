"""The platforms that `--platform` names, and the options that each of them stands for."""

from __future__ import annotations

from collections.abc import Mapping

LAMBDA, FC, NONE = "lambda", "fc", "none"
PLATFORMS = (LAMBDA, FC, NONE)

MEANS: Mapping[str, Mapping[str, object]] = {
    LAMBDA: {"log_style": "lambda", "error_style": "lambda"},
    FC: {"raw": True, "log_style": "fc", "error_style": "fc"},
    NONE: {},
}
"""Platform: {option: its value if --platform is given and the option is not}."""
