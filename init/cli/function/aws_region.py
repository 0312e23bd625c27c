"""Find the region in the user's AWS configuration, and guess whether a function uses one. It only reads files.

The SDKs prefer AWS_DEFAULT_REGION to the configuration. If pipe-init sets that variable, it must use the region that
the SDKs would otherwise have read from the configuration.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ...kernel.plain_files import read_plain
from ...model import Function
from ..options.run_options import FC, RunOptions
from .identity import is_name

MAX_FILE = 2**20
"""The most bytes to read from a file. The SDKs' files have only a few lines for each profile."""

_FILES = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))
"""Pairs of the variable that can name a file, and the file's default name in ~/.aws. The first file that has a region
for the profile decides."""

MAX_SOURCES = 50
"""The most source files to search in a folder."""

_SIGNS = (b"boto", b"AWS_")
"""A pattern for the parts of a source file that mention AWS."""


def region_of_profile(environment: Mapping[str, str]) -> str:
    """Return the region of the profile that the environment names, or of the default profile; "" if it has none.

    Ignore a text that cannot be a region. Skip files that are missing, that are not plain, or that cannot be
    understood: the SDK itself reports what is wrong with them.
    """
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    home = environment.get("HOME") or os.path.expanduser("~")
    for variable, name in _FILES:
        given = environment.get(variable, "")
        path = given.replace("~", home, 1) if given.startswith("~/") else given
        region = _region_in(path or os.path.join(home, ".aws", name), profile)
        if region:
            return region if is_name(region) else ""
    return ""


def _region_in(path: str, profile: str) -> str:
    """Return the region of a profile in a file; "" if the file has none.

    The file has the form that the SDKs read: sections with lines `key = value`. Nested keys are indented.
    """
    inside = False
    for line in (read_plain(path, MAX_FILE) or b"").decode("utf-8-sig", "replace").splitlines():
        if line.startswith("["):
            section, closed, _ = line[1:].partition("]")
            kind, _, rest = section.partition(" ")
            name = rest.strip(" \t'\"") if kind == "profile" else section
            inside = bool(closed) and name == profile
        elif inside and line.startswith("region"):
            rest = line.removeprefix("region").lstrip()
            if rest.startswith(("=", ":")):
                return rest[1:].strip()
    return ""


def note_about_region(options: RunOptions, function: Function) -> str:
    """Return a log line about the assumed region; "" unless the function is likely to use it."""
    region = function.assumed_region
    if not region or function.log_style == "none":
        return ""
    if options.platform == FC:
        return f"FC_REGION is {region}: neither --region nor the environment names another"
    if options.platform or mentions_aws(options.code_dir, options.handler):
        return f"AWS_REGION is {region}: neither --region nor the environment nor an AWS profile names another"
    return ""


def mentions_aws(code_dir: str, handler: str) -> bool:
    """Return whether a source file in the code directory or in the handler's folder mentions AWS.

    This is a cheap guess. It parses no file, and reads only the first MAX_SOURCES files of a folder.
    """
    module, _, _ = handler.partition(":")
    place, _, name = module.rpartition("/")
    packages = name.split(".")[: -1 if ":" in handler else -2]
    return any(_has_sign(folder) for folder in {code_dir, os.path.join(code_dir, place, *packages)})


def _has_sign(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            paths = sorted(entry.path for entry in entries if entry.name.endswith(".py") and entry.is_file())
    except (OSError, ValueError):
        return False
    sources = (read_plain(path, MAX_FILE) or b"" for path in paths[:MAX_SOURCES])
    return any(sign in source for source in sources for sign in _SIGNS)
