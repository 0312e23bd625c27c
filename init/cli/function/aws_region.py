"""Find the region in the user's AWS configuration. This file only reads files.

The SDKs prefer AWS_DEFAULT_REGION to the configuration. If pipe-init sets that variable, it must use the region that
the SDKs would otherwise have read from the configuration.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ...kernel.plain_files import read_plain
from ...model import Function
from ..options.run_options import FC, RunOptions
from .platform import is_name

MAX_FILE = 2**20
"""The most bytes to read from a file. The SDKs' files have only a few lines for each profile."""

_FILES = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))
"""Pairs of the variable that can name a file, and the file's default name in ~/.aws. The first file that has a region
for the profile decides."""


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
    """Return a log line about the assumed region; "" unless the user has named the platform."""
    region = function.assumed_region
    if not region or not options.platform or function.log_style == "none":
        return ""
    if options.platform == FC:
        return f"FC_REGION is {region}: neither --region nor the environment names another"
    return f"AWS_REGION is {region}: neither --region nor the environment nor an AWS profile names another"
