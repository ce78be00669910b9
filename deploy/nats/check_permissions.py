#!/usr/bin/env python3
"""Starts nats-server with the nats.conf beside this file and tries every user's rights.

Two parts. The matrix tries each listed subject as each user, so a right that is granted too widely fails
as surely as one that is missing. The conversations then do what routers, operators, executors and tenants
do for a living, JetStream included; any permission error on the way fails.

Needs nats-py (PYTHONPATH or .tools/python) and nats-server (NATS_SERVER_BIN, .tools/bin or PATH).
Listens on 127.0.0.1 on ports that the system picks; leaves nothing behind.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import re
import secrets
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / ".tools" / "python"))

import nats  # noqa: E402
import nats.errors  # noqa: E402
from nats.js.api import (  # noqa: E402
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    KeyValueConfig,
    StreamConfig,
)

USERS = {
    "router": "NATS_ROUTER_PASSWORD",
    "operator": "NATS_OPERATOR_PASSWORD",
    "executor": "NATS_EXECUTOR_PASSWORD",
    "gateway": "NATS_GATEWAY_PASSWORD",
    "acme": "NATS_TENANT_ACME_PASSWORD",
}

# Subject -> the users who may. Everyone else must be refused.
PUBLISH = {
    "beamline.router.v1.decide": {"gateway"},
    "beamline.router.v1.tenant.acme.decide": {"gateway", "acme"},
    "beamline.router.v1.tenant.globex.decide": {"gateway"},
    "beamline.router.v1.tenant.acme.other": set(),
    "beamline.router.v1.decide.reply": {"router"},
    "beamline.router.control.v1.policy.put": {"operator"},
    "beamline.router.control.v1.breaker.force": {"operator"},
    "beamline.router.v1.events.breaker.acme.openai": {"router"},
    "beamline.router.v1.log.policy": {"router"},
    "beamline.router.v1.log.claim.acme.openai": {"router"},
    "beamline.router.v1.other": set(),
    "beamline.usage.v1.metered": {"router"},
    "caf.exec.assign.v1": {"router"},
    "caf.exec.assign.gpu": {"router"},
    "caf.exec.assign.v1.ack": {"router", "executor"},
    "caf.exec.result.v1": {"executor"},
    "caf.exec.result.v1.acme": {"executor"},
    "_INBOX.acme.x": {"router"},
    "_INBOX.executor.x": {"router"},
    "_R_.x": {"router"},
    "$KV.BEAMLINE_POLICIES.acme.default": {"router"},
    "$KV.BEAMLINE_FLAGS.global": {"router"},
    "$KV.OTHER.key": set(),
    "$KV.BEAMLINE_SNAPSHOTS.a.1.manifest": {"router"},
    "$KV.BEAMLINE_SNAPSHOTS.a.1.0": {"router"},
    "$SRV.PING": {"operator"},
    "$SRV.STATS.beamline-router": {"operator"},
    "$JS.API.INFO": {"router", "operator"},
    "$JS.API.STREAM.NAMES": {"router", "operator"},
    "$JS.API.STREAM.CREATE.BEAMLINE_LOG": {"router"},
    "$JS.API.STREAM.CREATE.KV_BEAMLINE_POLICIES": {"router"},
    "$JS.API.STREAM.CREATE.OTHER": set(),
    "$JS.API.STREAM.UPDATE.BEAMLINE_LOG": {"router"},
    "$JS.API.STREAM.INFO.BEAMLINE_LOG": {"router"},
    "$JS.API.STREAM.INFO.BEAMLINE_EVENTS": {"router", "operator"},
    "$JS.API.STREAM.DELETE.BEAMLINE_LOG": set(),
    "$JS.API.STREAM.PURGE.BEAMLINE_LOG": set(),
    "$JS.API.STREAM.PURGE.KV_BEAMLINE_POLICIES": set(),
    "$JS.API.STREAM.PURGE.KV_BEAMLINE_SNAPSHOTS": {"router"},
    "$JS.API.STREAM.MSG.DELETE.BEAMLINE_LOG": set(),
    "$JS.API.STREAM.MSG.GET.BEAMLINE_LOG": {"router"},
    "$JS.API.DIRECT.GET.KV_BEAMLINE_POLICIES.$KV.BEAMLINE_POLICIES.acme.default": {"router"},
    "$JS.API.CONSUMER.CREATE.BEAMLINE_LOG": {"router"},
    "$JS.API.CONSUMER.CREATE.BEAMLINE_LOG.name.caf.exec.result.v1": {"router"},
    "$JS.API.CONSUMER.DURABLE.CREATE.BEAMLINE_LOG.usage": {"router"},
    "$JS.API.CONSUMER.MSG.NEXT.BEAMLINE_LOG.usage": {"router"},
    "$JS.API.CONSUMER.DELETE.BEAMLINE_LOG.usage": {"router"},
    "$JS.API.CONSUMER.CREATE.BEAMLINE_EVENTS.name": {"router", "operator"},
    "$JS.API.CONSUMER.MSG.NEXT.BEAMLINE_USAGE.name": {"router", "operator"},
    "$JS.API.CONSUMER.CREATE.OTHER.name": set(),
    "$JS.API.ACCOUNT.PURGE.BEAMLINE": set(),
    "$JS.ACK.BEAMLINE_LOG.usage.1.1.1.1.0": {"router"},
    "$JS.ACK._.hash.BEAMLINE_LOG.usage.1.1.1.1.0": {"router"},
    "$JS.ACK.BEAMLINE_EVENTS.name.1.1.1.1.0": {"operator"},
    "$JS.FC.BEAMLINE_LOG.name.x": {"router"},
    "$JS.FC._.hash.BEAMLINE_LOG.name.x": {"router"},
    "$SYS.REQ.SERVER.PING": set(),
}

SUBSCRIBE = {
    ">": set(),
    "beamline.>": set(),
    "beamline.router.v1.decide": {"router"},
    "beamline.router.v1.tenant.*.decide": {"router"},
    "beamline.router.v1.tenant.acme.decide": {"router"},
    "beamline.router.v1.decide.reply": {"gateway"},
    "beamline.router.control.v1.>": {"router"},
    "beamline.router.v1.events.>": {"operator"},
    "beamline.router.v1.log.>": set(),
    "beamline.usage.v1.metered": {"operator"},
    "caf.exec.assign.>": {"executor"},
    "caf.exec.assign.v1": {"executor"},
    "caf.exec.assign.v1.ack": {"router"},
    "caf.exec.result.v1": set(),
    "caf.exec.result.v1.acme": set(),
    "_INBOX.>": set(),
    "_INBOX.*": set(),
    "_INBOX.router.>": {"router"},
    "_INBOX.acme.>": {"acme"},
    "_INBOX.gateway.>": {"gateway"},
    "_INBOX.operator.>": {"operator"},
    "_INBOX.executor.>": {"executor"},
    "$KV.BEAMLINE_POLICIES.>": set(),
    "$SRV.>": {"router"},
    "$JS.EVENT.ADVISORY.>": set(),
    "$SYS.>": set(),
}

WAIT = 10  # seconds, for anything that must come


class Fault(Exception):
    """A right that is not as the table or a conversation wants it."""


def server_binary():
    """The server to test with: named by the environment, fetched by scripts/tools.py, or on PATH."""
    named = os.environ.get("NATS_SERVER_BIN")
    fetched = ROOT / ".tools" / "bin" / "nats-server"
    found = named or (str(fetched) if fetched.exists() else shutil.which("nats-server"))
    if not found:
        sys.exit("check_permissions: no nats-server; run scripts/tools.py, or set NATS_SERVER_BIN")
    return found


def server_version(binary):
    out = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(n) for n in re.search(r"v(\d+)\.(\d+)\.(\d+)", out).groups())


@contextlib.contextmanager
def server(binary, config, passwords):
    """Runs the server with the config under test; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="beamline-nats-") as folder:
        log = pathlib.Path(folder, "log")
        with log.open("w") as sink:
            # Address, ports and folder are this test's; users and rights are the file's.
            process = subprocess.Popen(
                [binary, "-c", str(config), "-a", "127.0.0.1", "-p", "-1", "-m", "-1",
                 "--ports_file_dir", folder],
                stdout=sink, stderr=sink, env={**os.environ, **passwords, "NATS_STORE_DIR": folder},
            )
        try:
            yield asyncio.run(wait_for_url(process, folder, log))
        finally:
            process.terminate()
            process.wait(WAIT)


async def wait_for_url(process, folder, log):
    for _ in range(WAIT * 50):
        if process.poll() is not None:
            raise Fault(f"nats-server did not start:\n{log.read_text()}")
        for ports in pathlib.Path(folder).glob("*.ports"):
            with contextlib.suppress(json.JSONDecodeError):
                return json.loads(ports.read_text())["nats"][0]
        await asyncio.sleep(0.02)
    raise Fault("nats-server named no port")


class Client:
    """A connection as one user, which collects the server's permission errors."""

    def __init__(self, url, user, password, inbox=None):
        self.url, self.user, self.password = url, user, password
        self.inbox = inbox or f"_INBOX.{user}"
        self.errors = []

    async def __aenter__(self):
        async def on_error(error):
            self.errors.append(str(error))

        self.nc = await nats.connect(
            self.url, user=self.user, password=self.password, inbox_prefix=self.inbox,
            error_cb=on_error, allow_reconnect=False, connect_timeout=WAIT,
        )
        self.js = self.nc.jetstream(timeout=WAIT)
        return self

    async def __aexit__(self, *_):
        await self.nc.close()

    async def refusals(self):
        """The errors since the last call. The server answers in order, so a PONG comes after them; nats-py
        writes its PING before what is pending, so that only the second PONG speaks for it."""
        await self.nc.flush(WAIT)
        await self.nc.flush(WAIT)
        errors, self.errors = self.errors, []
        return errors

    async def must_be_clean(self, what):
        errors = await self.refusals()
        if errors:
            raise Fault(f"{what}: {self.user} was refused: {errors}")


async def matrix(url, passwords):
    """Every subject as every user. Returns how many pairs were tried."""
    faults, tried = [], 0
    for user, variable in USERS.items():
        async with Client(url, user, passwords[variable]) as client:
            for verb, table in (("publish", PUBLISH), ("subscribe", SUBSCRIBE)):
                for subject, allowed in table.items():
                    if verb == "publish":
                        await client.nc.publish(subject, b"")
                    else:
                        subscription = await client.nc.subscribe(subject)
                    errors = await client.refusals()
                    if verb == "subscribe":
                        await subscription.unsubscribe()
                    tried += 1
                    if bool(errors) != (user not in allowed):
                        got = "was refused" if errors else "was let through"
                        faults.append(f"{user} {got}: {verb} {subject}")
    if faults:
        raise Fault("\n  ".join(["rights differ from the table:", *faults]))
    return tried


async def strangers(url, passwords):
    """No password, a wrong one, and another user's are all refused."""
    for user, password in ((None, None), ("router", "wrong"), ("acme", passwords["NATS_ROUTER_PASSWORD"])):
        try:
            async with Client(url, user, password, "_INBOX.x"):
                raise Fault(f"connected as {user} with a wrong password")
        except nats.errors.Error:
            pass


async def make_streams(router):
    """What a router makes at its first start."""
    js = router.js
    await js.add_stream(StreamConfig(
        name="BEAMLINE_LOG", allow_direct=True,
        subjects=["caf.exec.result.v1", "caf.exec.result.v1.*", "beamline.router.v1.log.>"]))
    await js.add_stream(StreamConfig(name="BEAMLINE_EVENTS", subjects=["beamline.router.v1.events.>"]))
    await js.add_stream(StreamConfig(name="BEAMLINE_USAGE", subjects=["beamline.usage.v1.metered"]))
    await js.update_stream(StreamConfig(name="BEAMLINE_USAGE", subjects=["beamline.usage.v1.metered"], max_age=86400))
    if await js.find_stream_name_by_subject("caf.exec.result.v1") != "BEAMLINE_LOG":
        raise Fault("the stream that holds the results was not found")


async def use_buckets(router):
    """Policies, flags and snapshots: write, compare-and-set, read, list, watch, replace."""
    js = router.js
    for bucket in ("BEAMLINE_POLICIES", "BEAMLINE_FLAGS"):
        kv = await js.create_key_value(KeyValueConfig(bucket=bucket, history=64, direct=True))
        watcher = await kv.watchall()
        await watcher.updates(WAIT)  # the mark that the present has been told
        first = await kv.create("acme.default", b"one")
        await kv.update("acme.default", b"two", last=first)
        if (await kv.get("acme.default")).value != b"two" or await kv.keys() != ["acme.default"]:
            raise Fault(f"{bucket} does not give back what was put")
        if (await watcher.updates(WAIT)).value != b"one":
            raise Fault(f"{bucket} does not tell its changes")
        await kv.delete("acme.default")
        await watcher.stop()
    snapshots = await js.create_key_value(KeyValueConfig(bucket="BEAMLINE_SNAPSHOTS", history=1, direct=True))
    await snapshots.create("a.1.manifest", b"{}")
    await snapshots.put("a.1.0", b"b" * 300_000)
    if (await snapshots.get("a.1.0")).value != b"b" * 300_000:
        raise Fault("the snapshot does not read back")
    await js.purge_stream("KV_BEAMLINE_SNAPSHOTS", subject="$KV.BEAMLINE_SNAPSHOTS.a.1.>")
    await router.must_be_clean("buckets")


async def answer(router, subject, queue=""):
    """Answers requests on a subject the way a router does."""
    async def reply(message):
        await router.nc.publish(message.reply or "beamline.router.v1.decide.reply", b'{"ok":true}')

    await router.nc.subscribe(subject, queue=queue, cb=reply)
    await router.must_be_clean(f"subscribe {subject}")


async def read_log(router, entries):
    """An ordered push consumer with flow control, as each worker reads the log."""
    inbox = router.nc.new_inbox()
    got, controls, done = 0, 0, asyncio.Event()

    async def take(message):
        nonlocal got, controls
        status = (message.headers or {}).get("Status")
        if status is None:
            got += 1
            if got == entries:
                done.set()
        elif message.reply:
            controls += 1
            await router.nc.publish(message.reply, b"")

    await router.nc.subscribe(inbox, cb=take)
    await router.js.add_consumer("BEAMLINE_LOG", ConsumerConfig(
        name="reader", deliver_subject=inbox, ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL,
        flow_control=True, idle_heartbeat=1.0, max_deliver=1, mem_storage=True))
    await asyncio.wait_for(done.wait(), WAIT)
    await router.js.delete_consumer("BEAMLINE_LOG", "reader")
    await router.must_be_clean("log reader")
    if not controls:
        raise Fault("the log reader saw no flow control: its right to answer it was not tried")


async def drain(client, stream, subject, durable, count):
    """A durable pull consumer with explicit acks, each ack confirmed by the server. Returns an ack subject."""
    subscription = await client.js.pull_subscribe(subject, durable=durable, stream=stream)
    for message in await subscription.fetch(count, timeout=WAIT):
        await message.ack_sync(WAIT)
    await client.must_be_clean(f"{durable} on {stream}")
    return message.reply


async def log(router, executor):
    """Results into the log, through JetStream and without; the log read in order, and usage taken from it."""
    results = 2000
    ack = await executor.js.publish("caf.exec.result.v1", b"{}", timeout=WAIT, headers={"Nats-Msg-Id": "a"})
    if ack.stream != "BEAMLINE_LOG":
        raise Fault("the result did not reach the log")
    for _ in range(results - 1):
        await executor.nc.publish("caf.exec.result.v1.acme", b"x" * 1000)
    await executor.must_be_clean("results")
    await router.js.publish("beamline.router.v1.log.policy", b"{}", timeout=WAIT)
    await read_log(router, results + 1)
    return await drain(router, "BEAMLINE_LOG", "caf.exec.result.v1", "usage", 1)


async def newer_subjects(url, passwords):
    """The log again, under ack and flow-control subjects that name domain and account."""
    async with Client(url, "router", passwords["NATS_ROUTER_PASSWORD"]) as router, \
            Client(url, "executor", passwords["NATS_EXECUTOR_PASSWORD"]) as executor:
        await make_streams(router)
        acked = await log(router, executor)
        if acked.startswith("$JS.ACK.BEAMLINE_LOG."):
            raise Fault(f"the newer ack subjects are not on: {acked}")


async def conversations(url, passwords):
    """What the users do all day, over one server."""
    async with contextlib.AsyncExitStack() as stack:
        router, operator, executor, gateway, acme = [
            await stack.enter_async_context(Client(url, user, passwords[variable]))
            for user, variable in USERS.items()
        ]
        everyone = (router, operator, executor, gateway, acme)

        await make_streams(router)
        await use_buckets(router)

        # Decisions and control: the reply reaches the one who asked, and nobody else may listen there.
        await answer(router, "beamline.router.v1.decide", "beamline-router")
        await answer(router, "beamline.router.v1.tenant.*.decide", "beamline-router")
        await answer(router, "beamline.router.control.v1.>", "beamline-router")
        await answer(router, "$SRV.PING")
        for client, subject in (
            (gateway, "beamline.router.v1.decide"),
            (acme, "beamline.router.v1.tenant.acme.decide"),
            (operator, "beamline.router.control.v1.policy.list"),
            (operator, "$SRV.PING"),
        ):
            response = await client.nc.request(subject, b"{}", timeout=WAIT)
            if response.data != b'{"ok":true}':
                raise Fault(f"{client.user} got no answer on {subject}")
        shared = await gateway.nc.subscribe("beamline.router.v1.decide.reply")
        await gateway.must_be_clean("decide.reply")
        await gateway.nc.publish("beamline.router.v1.decide", b"{}")
        await shared.next_msg(WAIT)

        # A tenant whose client keeps the default inbox prefix can't listen for its answer.
        async with Client(url, "acme", passwords["NATS_TENANT_ACME_PASSWORD"], "_INBOX") as forgetful:
            await forgetful.nc.subscribe(forgetful.nc.new_inbox())
            if not await forgetful.refusals():
                raise Fault("a tenant may listen on any inbox")

        # Assignments out, acks and results back. The executor hears no acks.
        jobs = await executor.nc.subscribe("caf.exec.assign.>")
        acks = await router.nc.subscribe("caf.exec.assign.v1.ack")
        await executor.must_be_clean("assignments")
        await router.nc.publish("caf.exec.assign.v1", b"{}")
        await jobs.next_msg(WAIT)
        await executor.nc.publish("caf.exec.assign.v1.ack", b"{}")
        await acks.next_msg(WAIT)
        await executor.nc.flush(WAIT)
        if jobs.pending_msgs:
            raise Fault("the executor hears acks")
        await log(router, executor)

        # Events and usage: live, and from their streams.
        live = await operator.nc.subscribe("beamline.router.v1.events.>")
        metered = await operator.nc.subscribe("beamline.usage.v1.metered")
        await operator.must_be_clean("events and usage")
        await router.js.publish("beamline.router.v1.events.breaker.acme.openai", b"{}", timeout=WAIT)
        await router.js.publish("beamline.usage.v1.metered", b"{}", timeout=WAIT)
        await live.next_msg(WAIT)
        await metered.next_msg(WAIT)
        await drain(operator, "BEAMLINE_EVENTS", "beamline.router.v1.events.>", "audit", 1)
        await drain(operator, "BEAMLINE_USAGE", "beamline.usage.v1.metered", "billing", 1)
        ordered = await operator.js.subscribe(
            "beamline.router.v1.events.>", stream="BEAMLINE_EVENTS", ordered_consumer=True)
        await ordered.next_msg(WAIT)

        for client in everyone:
            await client.must_be_clean("conversations")


def main():
    binary = server_binary()
    version = server_version(binary)
    passwords = {variable: "p" + secrets.token_hex(16) for variable in USERS.values()}
    config = HERE / "nats.conf"

    # Nothing that comes from the environment may have a default.
    complete = {**os.environ, **passwords, "NATS_STORE_DIR": "/data"}
    for variable in (*passwords, "NATS_STORE_DIR"):
        lacking = {k: v for k, v in complete.items() if k != variable}
        if subprocess.run([binary, "-t", "-c", str(config)], env=lacking, capture_output=True).returncode == 0:
            raise Fault(f"the server starts without {variable}")

    with server(binary, config, passwords) as url:
        asyncio.run(strangers(url, passwords))
        tried = asyncio.run(matrix(url, passwords))
    with server(binary, config, passwords) as url:
        asyncio.run(conversations(url, passwords))
    formats = "one ack format"
    if version >= (2, 14, 0):
        # A later server may have this flag on by default.
        with tempfile.TemporaryDirectory(prefix="beamline-nats-") as folder:
            wrapper = pathlib.Path(folder, "nats.conf")
            wrapper.write_text(f"include {os.path.relpath(config, folder)!r}\nfeature_flags {{ js_ack_fc_v2: true }}\n")
            with server(binary, wrapper, passwords) as url:
                asyncio.run(newer_subjects(url, passwords))
        formats = "both ack formats"
    print(f"nats permissions: {tried} rights as in the table, conversations clean with {formats}"
          f" (nats-server {'.'.join(map(str, version))})")


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"check_permissions: {fault}")
