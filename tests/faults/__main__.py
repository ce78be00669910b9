#!/usr/bin/env python3
"""Runs the scenarios of faults on real brokers, and judges each by an independent model of the log.

    python3 tests/faults                    all of them
    python3 tests/faults --only NAME        these alone; may be repeated
    python3 tests/faults --short            the short form of a few, as "make test" runs them
    python3 tests/faults --list             what there is
    python3 tests/faults --judge FILE       judges a recording that a failed run has kept
    --keep                                  keeps what passing ones leave, too
    --program PATH                          the router; target/release/beamline-router without

One line for each: its verdict, how long it took, figures; then what is wrong, if anything is. What a failed one leaves
(the recording, logs) stands in target/faults/<name>. Needs what "scripts/tools.py test" fetches. Ends with 1 if one
fails, 2 for wrong usage. See docs/faults.md.
"""

import argparse
import asyncio
import os
import pathlib
import signal
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "faults"), str(ROOT / ".tools" / "python")]

from checks.checks import judge, lines  # noqa: E402
from checks.recording import Recording  # noqa: E402
from harness import disk, network  # noqa: E402
from harness.process import Failure, tool  # noqa: E402
from scenarios import SCENARIOS, Options, Scenario, Stage, Verdict  # noqa: E402
from scenarios.stage import STALE_MS  # noqa: E402


def say(text: str) -> None:
    """A line, at once: a run takes minutes."""
    print(text, flush=True)


async def run_one(scenario: Scenario, options: Options) -> bool:
    """Whether it passes."""
    began = time.monotonic()
    async with Stage(options, scenario.name) as stage:
        try:
            async def whole() -> Verdict:
                await scenario.run(stage)
                return await stage.finish()
            verdict = await asyncio.wait_for(whole(), scenario.seconds)
        except asyncio.TimeoutError:
            verdict = Verdict([*stage.faults, f"not done within {scenario.seconds:.0f} s"], {}, stage.notes)
        except (Failure, OSError, RuntimeError) as error:
            verdict = Verdict([*stage.faults, f"it could not go on: {error}"], {}, stage.notes)
        kept = stage.keep() if verdict.faults or options.keep_all else None
    figures = ", ".join(f"{value} {name}" for name, value in verdict.figures.items())
    notes = "".join(f"; {note}" for note in verdict.notes)
    word = "FAIL" if verdict.faults else "pass"
    say(f"faults: {word} {scenario.name} ({time.monotonic() - began:.0f} s): {figures}{notes}")
    for fault in verdict.faults:
        say(f"faults:      {fault}")
    if kept:
        say(f"faults:      kept in {kept.relative_to(ROOT) if kept.is_relative_to(ROOT) else kept}")
    return not verdict.faults


async def run_all(scenarios: list[Scenario], options: Options) -> int:
    """Runs them one after the other."""
    # So that Ctrl-C and a termination end what was started, too.
    task = asyncio.current_task()
    assert task
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    network.remove_strays()
    disk.remove_strays()
    failed, left_out = [], []
    for scenario in scenarios:
        why = scenario.lacking()
        if why:
            left_out.append(scenario.name)
            say(f"faults: left out {scenario.name}: {why}")
        elif not await run_one(scenario, options):
            failed.append(scenario.name)
    passed = len(scenarios) - len(failed) - len(left_out)
    names = f": {', '.join(failed)}" if failed else ""
    say(f"faults: {passed} passed, {len(failed)} failed, {len(left_out)} left out{names}")
    return 1 if failed else 0


def judge_file(path: pathlib.Path) -> int:
    """Judges a recording again."""
    faults, figures = judge(Recording.from_json(path.read_text()), STALE_MS)
    say(f"faults: {figures}")
    for line in lines(faults):
        say(f"faults:      {line}")
    return 1 if faults else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--judge", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--program", default=os.environ.get("BEAMLINE_ROUTER_BIN"), metavar="PATH")
    given = parser.parse_args()
    if given.judge:
        return judge_file(given.judge)
    if given.list:
        for one in SCENARIOS:
            say(f"{one.name:22} {'short ' if one.short else '      '} {one.about}")
        return 0
    unknown = set(given.only) - {one.name for one in SCENARIOS}
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = pathlib.Path(given.program or target / "release" / "beamline-router")
    if not program.exists():
        parser.error(f"{program} is not there: build it, or name it with --program")
    options = Options(
        ROOT, str(program.resolve()), tool("NATS_SERVER_BIN", "nats-server", ROOT), given.short, target / "faults",
        given.keep,
    )
    chosen = [
        one for one in SCENARIOS if (one.name in given.only) or (not given.only and (one.short or not given.short))
    ]
    try:
        return asyncio.run(run_all(chosen, options))
    except (asyncio.CancelledError, KeyboardInterrupt):
        say("faults: ended before its time")
        return 130


if __name__ == "__main__":
    sys.exit(main())
