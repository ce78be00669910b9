#!/usr/bin/env python3
"""Checks the licence of every dependency, all platforms and build and test ones included, against the
allow-list in licences.toml. Names each crate that none of its licences lets in, and exits 1.

    scripts/licences.py [METADATA.json]    default: asks "cargo metadata --locked"

A crate's licence is an SPDX expression. OR offers a choice, AND asks for all, WITH ties an exception to its
licence (the pair must be on the list as a pair); WITH binds tighter than AND, AND tighter than OR.

>>> allowed = {"MIT", "ISC", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"}.__contains__
>>> [satisfied(e, allowed) for e in ("MIT", "GPL-3.0-only", "GPL-3.0-only OR MIT", "GPL-3.0-only AND MIT")]
[True, False, True, False]
>>> satisfied("GPL-3.0-only AND ISC OR MIT", allowed), satisfied("GPL-3.0-only AND (ISC OR MIT)", allowed)
(True, False)
>>> satisfied("Apache-2.0 WITH LLVM-exception", allowed), satisfied("MIT WITH LLVM-exception", allowed)
(True, False)
>>> satisfied("MIT/GPL-3.0-only", allowed), satisfied("mit", allowed)
(True, False)
>>> [satisfied(e, allowed) for e in ("MIT OR", "(MIT", "MIT ISC", "")]
Traceback (most recent call last):
ValueError: ends too soon
"""

import doctest
import json
import pathlib
import re
import subprocess
import sys

try:
    import tomllib
except ModuleNotFoundError:  # Python before 3.11
    from pip._vendor import tomli as tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALLOW_LIST = ROOT / "scripts" / "licences.toml"

TOKEN = re.compile(r"\s*(\(|\)|/|[A-Za-z0-9][A-Za-z0-9.+:-]*)")


def tokens(expression):
    """The expression's tokens. The slash is crates.io's old spelling of OR."""
    position, found = 0, []
    expression = expression.rstrip()
    while position < len(expression):
        match = TOKEN.match(expression, position)
        if not match:
            raise ValueError(f"no SPDX expression from {expression[position:]!r} on")
        found.append("OR" if match[1] == "/" else match[1])
        position = match.end()
    return found


def satisfied(expression, allowed):
    """Whether the allowed licences let the expression in. ValueError if it is no expression."""
    rest = tokens(expression)

    def take():
        if not rest:
            raise ValueError("ends too soon")
        return rest.pop(0)

    def licence():
        token = take()
        if token == "(":
            inner = either()
            if take() != ")":
                raise ValueError("a parenthesis is not closed")
            return inner
        if token in (")", "OR", "AND", "WITH"):
            raise ValueError(f"a licence is missing before {token}")
        if rest[:1] == ["WITH"]:
            take()
            token = f"{token} WITH {take()}"
        return allowed(token)

    def both():
        result = licence()
        while rest[:1] == ["AND"]:
            take()
            result = licence() and result
        return result

    def either():
        result = both()
        while rest[:1] == ["OR"]:
            take()
            result = both() or result
        return result

    result = either()
    if rest:
        raise ValueError(f"goes on with {rest[0]!r} after its end")
    return result


def metadata(arguments):
    if arguments:
        return json.loads(pathlib.Path(arguments[0]).read_text())
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def main(arguments):
    if doctest.testmod().failed:
        return 1
    listed = tomllib.loads(ALLOW_LIST.read_text())["licenses"]
    general, used = set(listed["allow"]), set()
    special = {entry["crate"]: set(entry["allow"]) for entry in listed["exceptions"]}
    packages = metadata(arguments)["packages"]
    faults = []
    for package in packages:
        own = special.get(package["name"], set())

        def allowed(licence, own=own):
            if licence in general:
                used.add(licence)
            return licence in general or licence in own

        label = f"{package['name']} {package['version']}"
        try:
            if not package["license"]:
                faults.append(f"{label}: names no licence")
            elif not satisfied(package["license"], allowed):
                faults.append(f"{label}: {package['license']}")
        except ValueError as error:
            faults.append(f"{label}: {package['license']!r} {error}")
    for fault in sorted(faults):
        print(f"licences: not allowed: {fault}", file=sys.stderr)
    for licence in sorted(general - used):
        print(f"licences: {licence} is on the list, and no dependency has it")
    if not faults:
        print(f"licences: {len(packages)} crates, all under licences of {ALLOW_LIST.relative_to(ROOT)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
