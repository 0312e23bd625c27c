"""Define how long a test waits for something that must happen."""

from __future__ import annotations

HANGS = 300.0
"""The seconds after which a test decides that something hangs.

Only a test that fails waits that long, so the limit is made for a slow machine. With 14 other busy processes on two
CPUs, and coverage in the children, a step of five seconds takes more than a minute. The faulthandler_timeout in
setup.cfg is longer, so that the test itself can tell what it was waiting for.
"""
