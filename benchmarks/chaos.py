"""Kill, stop and crash the processes below a busy `pipe-init run` at random, and check the outcome of every event.

    python benchmarks/chaos.py [--kills N] [--ends N] [--mode NAME] [--seed N]

The program checks outcomes, processes, descriptors and memory from outside. It relies only on what docs/ promises, not
on how pipe-init works inside. docs/reliability.md has the promises and the figures.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence

import machine
import victims
from outcomes import Failure, Tally
from storm import MODES, Plan, Storm

COMMAND = [sys.executable, "-X", "faulthandler", "-m", "pipe_init"]
"""The same as the console script, except that a hang of the init shows its stack."""

HEADINGS = (
    "mode",
    "strikes on workers, template, forking, neighbours",
    "KILL, SEGV, STOP",
    "events in seconds",
    "results, errors",
    "ended, timed out by strikes",
    "KiB",
    "descriptors",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit code: 1 if pipe-init has broken a promise."""
    options = parse(argv)
    victims.become_subreaper()
    facts = machine.describe(os.sched_getaffinity(0))
    facts["seed"] = options.seed
    machine.show(facts)
    modes = [mode for mode in MODES if options.mode in ("all", mode, mode.partition(",")[0])]
    print("\n| " + " | ".join(HEADINGS) + " |\n|" + "---|" * len(HEADINGS), flush=True)
    kept = [storm(mode, unordered, options) for mode in modes for unordered in (False, True)]
    print(f"\n| mode | pipe-init killed | gone within, at most |\n{'|---' * 3}|", flush=True)
    kept += [ends(mode, options) for mode in modes]
    return int(not all(kept))


def storm(mode: str, unordered: bool, options: argparse.Namespace) -> bool:
    """Run half of a mode's strikes, and return whether pipe-init has kept every promise.

    Args:
        mode: One of MODES.
        unordered: Whether results come as soon as they are ready, or in the order of the events.
        options: The command's options.
    """
    name = f"{mode}{', unordered' * unordered}"
    kills = options.kills // 2 + (options.kills % 2) * (not unordered)
    plan = Plan(COMMAND, mode, f"{options.seed}, {unordered}", kills, options.gap, unordered, daemons=True)
    run = Storm(plan)
    try:
        show(name, run.go(lambda text: progress(f"{name}: {text}")))
    except Failure as failure:
        print(f"\n{name}: FAILED after {run.tally.events} events: {failure}\n{run.history()}", flush=True)
        return False
    finally:
        progress("")
        run.close()
    return True


def ends(mode: str, options: argparse.Namespace) -> bool:
    """Kill pipe-init itself at random moments of short runs. Return whether all its processes ended within a second."""
    chance = random.Random(f"{options.seed}, {mode}, ends")
    longest = 0.0
    for number in range(options.ends):
        began = time.monotonic()
        moment = began + chance.choice((0.1, 0.3, 1.0)) * chance.random()
        strikes = sorted(began + chance.random() * (moment - began) for _ in range(chance.randrange(4)))
        run = Storm(Plan(COMMAND, mode, f"{options.seed}, {number}"))
        try:
            while time.monotonic() < moment:
                run.step(min([moment, *strikes]))
                if strikes and time.monotonic() >= strikes[0]:
                    del strikes[0]
                    run.strike()
            longest = max(longest, run.kill_init())
        except Failure as failure:
            print(f"\n{mode}, end {number}: FAILED: {failure}\n{run.history()}", flush=True)
            return False
        finally:
            run.close()
        progress(f"{mode}: killed {number + 1} of {options.ends} times")
    progress("")
    print(f"| {mode} | {options.ends} times | {longest * 1000:.0f} ms |", flush=True)
    return True


def show(name: str, tally: Tally) -> None:
    """Print a row of the table."""
    struck, signals, outcomes = tally.struck, tally.signals, tally.outcomes
    timed_out = tally.unplanned["timed out"]
    columns = (
        name,
        ", ".join(str(struck[kind]) for kind in (victims.WORKER, victims.TEMPLATE, victims.FORKING, victims.NEIGHBOUR)),
        ", ".join(str(signals[name]) for name in ("SIGKILL", "SIGSEGV", "SIGSTOP")),
        f"{tally.events:,} in {tally.seconds:.0f}",
        f"{outcomes['result']:,}, {tally.events - outcomes['result']:,}",
        f"{sum(tally.unplanned.values()) - timed_out}, {timed_out}",
        f"{tally.kib[0]:,} to {tally.kib[1]:,}",
        f"{tally.descriptors[0]} to {tally.descriptors[1]}",
    )
    print("| " + " | ".join(columns) + " |", flush=True)


def progress(text: str) -> None:
    """Show one line of progress on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000, metavar="N", help="strikes in each mode (1000)")
    parser.add_argument("--ends", type=int, default=50, metavar="N", help="kills of pipe-init itself in each mode (50)")
    parser.add_argument("--mode", default="all", help=f"all, exec, template, request, or one of: {'; '.join(MODES)}")
    parser.add_argument(
        "--gap", type=float, default=0.05, metavar="S", help="seconds between strikes (0.05 on average)"
    )
    parser.add_argument("--seed", default=str(random.SystemRandom().getrandbits(32)), help="seed of the strikes")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
