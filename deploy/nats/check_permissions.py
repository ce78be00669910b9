#!/usr/bin/env python3
"""Starts nats-server with nats.conf and single-account.conf and tries every user's rights, and how to get round them.

For each of the two. The matrix tries each listed subject as each user, so a right that is granted too widely fails
as surely as one that is missing. The conversations then do what routers, operators, executors and tenants
do for a living, JetStream included; any permission error on the way fails. At last executors and tenants attack by
the reply subjects of what they publish: with single-account.conf that must reach the streams and buckets, or
the attack proves nothing, and with nats.conf nothing of it may.

Needs nats-py (PYTHONPATH or .tools/python) and nats-server (NATS_SERVER_BIN, .tools/bin or PATH).
Listens on 127.0.0.1 on ports that the system picks; leaves nothing behind.
"""

import asyncio
import os
import pathlib
import secrets
import subprocess
import sys
import tempfile

from checks.attack import attack
from checks.broker import (
    NATS,
    USERS,
    Fault,
    by_password,
    has_accounts,
    server,
    server_binary,
    server_version,
    with_spies,
)
from checks.conversations import conversations, newer_subjects, strangers
from checks.rights import matrix

CONFIGS = ("single-account.conf", "nats.conf")


def refuse_missing_variables(binary, config, passwords):
    """Nothing that comes from the environment may have a default."""
    complete = {**os.environ, **passwords, "NATS_STORE_DIR": "/data"}
    for variable in (*passwords, "NATS_STORE_DIR"):
        lacking = {k: v for k, v in complete.items() if k != variable}
        if subprocess.run([binary, "-t", "-c", str(config)], env=lacking, capture_output=True).returncode == 0:
            raise Fault(f"the server starts without {variable}")


def check(binary, version, config):
    passwords = {variable: "p" + secrets.token_hex(16) for variable in USERS.values()}
    refuse_missing_variables(binary, config, passwords)
    identities = by_password(passwords)
    with server(binary, config, passwords) as url:
        asyncio.run(strangers(url, identities))
        tried = asyncio.run(matrix(url, identities))
    with server(binary, config, passwords) as url:
        asyncio.run(conversations(url, identities))
    formats = "one ack format"
    if version >= (2, 14, 0):
        # A later server may have this flag on by default.
        with tempfile.TemporaryDirectory(prefix="beamline-nats-") as folder:
            wrapper = pathlib.Path(folder, "nats.conf")
            wrapper.write_text(f"include {os.path.relpath(config, folder)!r}\nfeature_flags {{ js_ack_fc_v2: true }}\n")
            with server(binary, wrapper, passwords) as url:
                asyncio.run(newer_subjects(url, identities))
        formats = "both ack formats"
    with tempfile.TemporaryDirectory(prefix="beamline-nats-") as folder:
        with server(binary, with_spies(folder) / config.name, passwords) as url:
            outcome = attack(url, identities, has_accounts(config))
    print(f"{config.name}: {tried} rights as in the table, conversations clean with {formats}; {outcome}"
          f" (nats-server {'.'.join(map(str, version))})")


def main():
    binary = server_binary()
    version = server_version(binary)
    for name in CONFIGS:
        try:
            check(binary, version, NATS / name)
        except Fault as fault:
            raise Fault(f"{name}: {fault}") from fault


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"check_permissions: {fault}")
