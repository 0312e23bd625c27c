"""How long a test waits for what must happen. Knows nothing else."""

from __future__ import annotations

HANGS = 300.0
"""Seconds after which a test takes what it waits for to hang.

Only a test that fails waits that long, so the limit is for a slow machine: beside 14 busy processes on two CPUs, with
coverage in the children, a step of five seconds takes more than a minute. setup.cfg's faulthandler_timeout is longer,
so that the test itself can tell what it was waiting for.
"""
