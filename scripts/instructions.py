#!/usr/bin/env python3
"""Counts the instructions of the decide path, and fails when they have grown.

    scripts/instructions.py             compares with benches/instructions.json
    scripts/instructions.py --accept    writes what was counted there, for a change that is worth its cost

What is counted is one decision, from the request's bytes to the reply's (decode, decide, encode), by
valgrind's callgrind: the program benches/instructions.rs runs twice, with another number of decisions, and
the difference is divided by the difference of the numbers, so that its start does not count. The count does
not depend on how busy the machine is. It does depend on the compiler and on the target: the baseline names
both, and where they differ nothing is compared, which is said. tests/house/allocations.rs holds the number
of allocations everywhere.

valgrind is looked for at VALGRIND_BIN, then where scripts/tools.py put it, then on PATH.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASELINE = ROOT / "benches" / "instructions.json"
PLACED = ROOT / ".tools" / "valgrind"
FEW, MANY = 512, 4608


def fail(text):
    sys.exit(f"instructions: {text}")


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **options)


def toolchain():
    """The compiler's version and its target, as it tells them."""
    told = run(["rustc", "-vV"], check=True).stdout
    field = lambda name: re.search(rf"^{name}: (.*)$", told, re.MULTILINE).group(1)
    return field("release"), field("host")


def valgrind():
    """The command, and the environment that it needs."""
    environment = dict(os.environ)
    named = os.environ.get("VALGRIND_BIN")
    placed = PLACED / "usr/bin/valgrind"
    if not named and placed.exists():
        environment["VALGRIND_LIB"] = str(PLACED / "usr/libexec/valgrind")
        named = str(placed)
    return named or shutil.which("valgrind"), environment


def built():
    """Builds the program: optimised, since that is what runs, but without what only takes time to link."""
    command = ["cargo", "build", "--locked", "--profile", "gate", "--bench", "instructions"]
    done = run([*command, "--message-format", "json"])
    if done.returncode != 0:
        rendered = (json.loads(line).get("message") or {} for line in done.stdout.splitlines() if "rendered" in line)
        fail("".join(m.get("rendered") or "" for m in rendered) + done.stderr)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "instructions":
            return message["executable"]
    fail(f"{' '.join(command)}: no program was built")


def counted(program, times):
    command, environment = valgrind()
    options = ["--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = run([command, *options, program, str(times)], env=environment)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        fail(f"{command} {program} {times}: exit status {done.returncode}\n{done.stderr}")
    return int(found.group(1))


def main(arguments):
    if arguments not in ([], ["--accept"]):
        sys.exit(__doc__.strip())
    if not valgrind()[0]:
        print("instructions: no valgrind here: nothing is counted; scripts/tools.py test gets it where there is apt-get")
        return
    program = built()
    found = round((counted(program, MANY) - counted(program, FEW)) / (MANY - FEW))
    rustc, host = toolchain()
    baseline = json.loads(BASELINE.read_text())
    if arguments:
        baseline |= {"rustc": rustc, "host": host, "instructions": found}
        BASELINE.write_text(json.dumps(baseline, indent=2) + "\n")
        print(f"instructions: {found} a decision is the baseline now, with rustc {rustc} on {host}")
        return
    wanted, grow = baseline["instructions"], baseline["may_grow_percent"]
    if (rustc, host) != (baseline["rustc"], baseline["host"]):
        print(
            f"instructions: {found} a decision, not compared: the baseline of {wanted} is of rustc {baseline['rustc']} "
            f"on {baseline['host']}, this is rustc {rustc} on {host}"
        )
        return
    change = (found - wanted) * 100 / wanted
    told = f"{found} a decision, {change:+.1f} % against the baseline of {wanted} (rustc {rustc})"
    if change > grow:
        fail(
            f"{told}: more than {grow} %. Make it cheaper, or, if it is worth that, run scripts/instructions.py --accept "
            "and say why in the commit"
        )
    print(f"instructions: {told}; it may grow by {grow} %")


if __name__ == "__main__":
    main(sys.argv[1:])
