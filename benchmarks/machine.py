"""What a measurement ran on, and whether what it measured is what users install."""

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
    """Name and value of everything that a figure depends on. cpus: what the measurement is bound to."""
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
    """Print what `describe` returns, and whatever else a program adds to it, a line for each."""
    for name, value in facts.items():
        print(f"{name + ':':<14} {value}")


def processor() -> str:
    """The processor's name, from proc(5) where it is there."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def quota() -> str:
    """What cgroup v2 allows of the CPUs, as a remark; "" where it does not limit them."""
    try:
        allowed, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return ""
    return "" if allowed == "max" else f", at most {int(allowed) / int(period):.2f} of them (cgroup)"


def version(distribution: str) -> str:
    """A distribution's version here."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "no installed version"


def version_under(python: str, distribution: str) -> str | None:
    """A distribution's version under another interpreter, None where it has none."""
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    try:
        done = subprocess.run([python, "-c", code, distribution], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def installation() -> str:
    """What is wrong with this installation for measuring; "" for a wheel in site-packages."""
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
    """The CPUs to run on: those given as "0,1", else the first two of those allowed. ValueError: they cannot be."""
    allowed = os.sched_getaffinity(0)
    if given is None:
        return set(sorted(allowed)[:2])
    cpus = {int(number) for number in given.split(",")}
    if not cpus <= allowed:
        raise ValueError(f"CPUs {given} are not all among the allowed {sorted(allowed)}")
    return cpus
