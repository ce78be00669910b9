#!/usr/bin/env python3
"""Makes users with tenants.py on a running nats-server and tries that each has its own tenant and no other.

The server starts before there is any tenant. Users of the fixed roles go through all that check_permissions.py tries
with passwords: rights, conversations, the attack by reply subject. Then 50 tenants and 50 executors of one tenant
each are made offline, and each tries its own subjects and those of all others. At last tenants are rotated, revoked,
and expire, and a stolen signing key is tried.

Needs what check_permissions.py needs, and PyNaCl.
"""

import asyncio
import contextlib
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from checks.attack import attack
from checks.broker import NATS, USERS, WAIT, Client, Fault, running, server, server_binary, server_version
from checks.conversations import conversations, make_streams
from checks.rights import matrix

import nats.errors
from nats_jwt import Key, credentials, identity, token

TENANTS = [f"Tenant-{number:02}" for number in range(50)]


class Keys:
    """A folder of tenants.py, used by its command line."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder, "keys of the broker")
        self.run("init")
        self.config = pathlib.Path(folder, "nats.conf")
        self.config.write_text(f'jetstream {{ store_dir: $NATS_STORE_DIR, max_file_store: 1T }}\ninclude "{self.folder.name}/accounts.conf"\n')

    def run(self, verb, *arguments):
        command = [sys.executable, str(NATS / "tenants.py"), verb, str(self.folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Fault(f"tenants.py {verb} {' '.join(arguments)}: {done.stderr}")
        return pathlib.Path(done.stdout.strip())

    def add(self, role, name):
        return identity(self.run("add", role, name).read_text())

    def forged(self, signer, account, name, **claims):
        """A user that somebody signs who has the signer's key."""
        user, key = Key.new("user"), Key.of_seed((self.folder / signer).read_text().strip())
        of = (self.folder / "account-ids" / account).read_text().strip()
        issuer = {} if signer.startswith("keys/") else {"issuer_account": of}
        expires = claims.pop("expires", None)
        jwt = token(key, user.public, name, {"type": "user", **issuer, **claims}, expires)
        return identity(credentials(jwt, user))


async def answer(router):
    """Decides as a router does, and says by its answer for which subject."""
    async def reply(message):
        await router.nc.publish(message.reply, message.subject.encode())

    await router.nc.subscribe("beamline.router.v1.tenant.*.decide", queue="beamline-router", cb=reply)
    await router.must_be_clean("decide")


async def refused(client, verb, subjects):
    """Each of the subjects must be refused. How many there are."""
    subjects = list(subjects)
    for subject in subjects:
        await (client.nc.publish(subject, b"{}") if verb == "publish" else client.nc.subscribe(subject))
    errors = await client.refusals()
    # nats-py puts what the server says into small letters.
    missing = [subject for subject in subjects if not any(f'"{subject.lower()}"' in error for error in errors)]
    if missing or len(errors) != len(subjects):
        raise Fault(f"{client.user} may {verb} {missing}, {len(errors)} of {len(subjects)} were refused")
    return len(subjects)


async def a_tenant(client, name):
    """Its own decide subject, and nothing else."""
    subject = f"beamline.router.v1.tenant.{name}.decide"
    got = (await client.nc.request(subject, b"{}", timeout=WAIT)).data
    if got != subject.encode():
        raise Fault(f"{name} asked, and {got} was answered")
    await client.must_be_clean("decide")
    others = [other for other in TENANTS if other != name]
    return sum([
        await refused(client, "publish", [f"beamline.router.v1.tenant.{other}.decide" for other in others]),
        await refused(client, "publish", ["beamline.router.v1.decide", f"caf.exec.result.v1.{name}", "$JS.API.INFO",
                                          "beamline.router.control.v1.policy.list", f"_INBOX.{name}.x"]),
        await refused(client, "subscribe", [f"_INBOX.{other}.>" for other in others]),
        await refused(client, "subscribe", [">", "_INBOX.>", subject, "beamline.router.v1.events.>"]),
    ])


async def an_executor(client, name, router, acks):
    """Its own assignments, acks and results, and nothing else."""
    jobs = await client.nc.subscribe(f"caf.exec.assign.v1.{name}")
    await client.must_be_clean("assignments")
    await router.nc.publish(f"caf.exec.assign.v1.{name}", name.encode())
    if (await jobs.next_msg(WAIT)).data != name.encode():
        raise Fault(f"{name} has another's assignment")
    await client.nc.publish(f"caf.exec.assign.v1.ack.{name}", b"{}")
    if not (await acks.next_msg(WAIT)).subject.endswith(f".{name}"):
        raise Fault(f"the ack of {name} comes as another's")
    stored = await client.js.publish(f"caf.exec.result.v1.{name}", b"{}", timeout=WAIT, headers={"Nats-Msg-Id": f"{name}:1"})
    if stored.stream != "BEAMLINE_LOG" or stored.duplicate:
        raise Fault(f"the result of {name} is not stored: {stored}")
    await client.must_be_clean("acks and results")
    others = [other for other in TENANTS if other != name]
    return sum([
        await refused(client, "publish", [f"caf.exec.{kind}.{other}" for other in others
                                          for kind in ("result.v1", "assign.v1.ack", "assign.v1")]),
        await refused(client, "publish", ["caf.exec.result.v1", "caf.exec.assign.v1.ack", f"caf.exec.assign.v1.{name}"]),
        await refused(client, "subscribe", [f"{prefix}.{other}" for other in others
                                            for prefix in ("caf.exec.assign.v1", "caf.exec.assign.v1.ack")]),
        await refused(client, "subscribe", ["caf.exec.assign.>", "caf.exec.assign.v1", "caf.exec.assign.v1.*",
                                            f"caf.exec.assign.v1.ack.{name}", f"caf.exec.result.v1.{name}"]),
    ])


async def all_tenants(url, identities, tenants, executors):
    """How many attempts were refused."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        router = await enter(Client.of(url, "router", identities))
        await make_streams(router)
        await answer(router)
        acks = await router.nc.subscribe("caf.exec.assign.v1.ack.*")
        await router.must_be_clean("acks")
        count = 0
        # All are connected at once.
        clients = [await enter(Client.of(url, name, tenants)) for name in TENANTS]
        workers = [await enter(Client.of(url, name, executors)) for name in TENANTS]
        for name, client, worker in zip(TENANTS, clients, workers):
            count += await a_tenant(client, name)
            count += await an_executor(worker, name, router, acks)
        return count


async def is_let_in(url, name, identity):
    try:
        async with Client(url, name, **identity) as client:
            await client.nc.request(f"beamline.router.v1.tenant.{name}.decide", b"{}", timeout=WAIT)
        return True
    except (nats.errors.Error, OSError):
        return False


async def closes(client):
    """Waits until the server has ended the connection."""
    deadline = time.monotonic() + WAIT
    while client.nc.is_connected:
        if time.monotonic() > deadline:
            raise Fault(f"{client.user} is still connected")
        await asyncio.sleep(0.02)


async def comings_and_goings(url, process, keys, identities, tenants):
    rotated, revoked, other = TENANTS[0], TENANTS[1], TENANTS[2]
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await answer(await enter(Client.of(url, "router", identities)))
        one, two, three = [await enter(Client.of(url, name, tenants)) for name in (rotated, revoked, other)]
        # Rotating: the new credentials are good beside the old ones, until those are revoked.
        fresh = keys.add("tenant", rotated)
        if not await is_let_in(url, rotated, fresh):
            raise Fault("new credentials of a tenant are refused")
        keys.run("revoke", "tenant", rotated, "--keep-newest")
        keys.run("revoke", "tenant", revoked)
        process.send_signal(signal.SIGHUP)
        await closes(one)
        await closes(two)
        for name, identity_, wanted in ((rotated, fresh, True), (rotated, tenants[rotated], False),
                                        (revoked, tenants[revoked], False), (other, tenants[other], True)):
            if await is_let_in(url, name, identity_) != wanted:
                raise Fault(f"{name} {'is refused' if wanted else 'is let in'} after the revocation")
        # A tenant that was revoked may come back with new credentials.
        if not await is_let_in(url, revoked, keys.add("tenant", revoked)):
            raise Fault("a revoked tenant cannot be given new credentials")
        if not three.nc.is_connected:
            raise Fault("the revocation of a tenant ends the connection of another")
        # Credentials with an end.
        brief = await enter(Client(url, "brief", **keys.forged("signing/tenant.nk", "TENANTS", "brief", expires=time.time() + 2)))
        await closes(brief)
        # What a stolen signing key of tenants is good for.
        everything = {"pub": {"allow": [">"]}, "sub": {"allow": [">"]}, "subs": -1, "data": -1, "payload": -1}
        for what, account, claims in (("more rights", "TENANTS", everything), ("a router", "BEAMLINE", {})):
            if await is_let_in(url, other, keys.forged("signing/tenant.nk", account, other, **claims)):
                raise Fault(f"the signing key of tenants makes {what}")
        # A new signing key ends all that the old one made, and nobody else.
        keys.run("rekey", "tenant")
        process.send_signal(signal.SIGHUP)
        await closes(three)
        if await is_let_in(url, other, tenants[other]) or not await is_let_in(url, other, keys.add("tenant", other)):
            raise Fault("the signing key of tenants was not replaced")


def refuse_names(keys):
    """Names that would be more than one token of a subject, or not a tenant's."""
    for role, name in (("tenant", "a.b"), ("tenant", "*"), ("tenant", ">"), ("tenant", ""), ("tenant-executor", "ack")):
        with contextlib.suppress(Fault):
            keys.add(role, name)
            raise SystemExit(f"check_tenants: tenants.py makes a {role} of the name {name!r}")


def main():
    binary = server_binary()
    with tempfile.TemporaryDirectory(prefix="beamline-tenants-") as folder:
        keys = Keys(folder)
        refuse_names(keys)
        roles = {user: keys.add("tenant" if user == "acme" else user, user) for user in USERS}
        all_rights = {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
        identities = {**roles, "spy": keys.forged("keys/BEAMLINE.nk", "BEAMLINE", "spy", **all_rights)}
        with server(binary, keys.config, {}) as url:
            tried = asyncio.run(matrix(url, identities))
        with server(binary, keys.config, {}) as url:
            asyncio.run(conversations(url, identities))
        with server(binary, keys.config, {}) as url:
            outcome = attack(url, identities, True)
        with running(binary, keys.config, {}) as (url, process):
            tenants = {name: keys.add("tenant", name) for name in TENANTS}
            executors = {name: keys.add("tenant-executor", name) for name in TENANTS}
            count = asyncio.run(all_tenants(url, identities, tenants, executors))
            asyncio.run(comings_and_goings(url, process, keys, identities, tenants))
    print(f"tenants.py: {tried} rights as in the table, conversations clean; {outcome}; {len(TENANTS)} tenants and as many"
          f" executors made beside a running server have their own subjects, {count} attempts on others' were refused;"
          f" rotated, revoked, expired and rekeyed ones are out (nats-server {'.'.join(map(str, server_version(binary)))})")


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"check_tenants: {fault}")
