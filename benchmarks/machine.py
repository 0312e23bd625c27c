"""Describe the machine of a measurement, and check that pipe-init is installed as users install it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path


def describe(cpus: set[int]) -> dict[str, str]:
    """Return the facts that a figure depends on, such as the processor and the versions: {name: value}.

    Args:
        cpus: The CPUs that the measurement runs on.
    """
    import msgpack

    kind = "pure Python" if msgpack.Packer.__module__ == "msgpack.fallback" else "C"
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "processor": f"{processor()}, {os.cpu_count()} CPUs",
        "affinity": "CPUs " + ", ".join(map(str, sorted(cpus))) + quota(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()) + " (1, 5, 15 minutes)",
        "python": f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}",
        "msgpack": f"{importlib.metadata.version('msgpack')}, {kind}",
        "pipe-init": f"{version('pipe-init')}, {installation() or 'installed'}",
    }


def show(facts: Mapping[str, str]) -> None:
    """Print facts, one on each line: those of `describe`, and others that a program has added."""
    for name, value in facts.items():
        print(f"{name + ':':<14} {value}")


def processor() -> str:
    """Return the processor's name, from proc(5) if it has the name."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def quota() -> str:
    """Return a remark about the CPU quota of cgroup v2, or "" if there is none."""
    try:
        allowed, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return ""
    return "" if allowed == "max" else f", at most {int(allowed) / int(period):.2f} of them (cgroup)"


def version(distribution: str) -> str:
    """Return the version of a distribution in this environment."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "no installed version"


def version_under(python: str, distribution: str) -> str | None:
    """Return the version of a distribution under another interpreter, or None if it is not installed there."""
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    try:
        done = subprocess.run([python, "-c", code, distribution], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def installation() -> str:
    """Return why figures of this installation would be wrong; "" for a wheel in site-packages, which is right."""
    folders = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    for package in ("pipe_init", "pipe_runtime"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            return f"{package} is not installed"
        folder = Path(spec.origin).resolve().parent
        if folder.parent not in folders:
            return f"NOT INSTALLED: {package} comes from {folder}"
    return ""


def choose_cpus(given: str | None) -> set[int]:
    """Return the CPUs to run on: the CPUs in `given`, such as "0,1", or else the first two that the program may use.

    Raises:
        ValueError: The program may not use a CPU in `given`.
    """
    allowed = os.sched_getaffinity(0)
    if given is None:
        return set(sorted(allowed)[:2])
    cpus = {int(number) for number in given.split(",")}
    if not cpus <= allowed:
        raise ValueError(f"CPUs {given} are not all among the allowed {sorted(allowed)}")
    return cpus
