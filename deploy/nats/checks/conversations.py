"""What routers, operators, executors and tenants do for a living, JetStream included."""

import asyncio
import contextlib

import nats.errors
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    KeyValueConfig,
    StreamConfig,
)

from .broker import USERS, WAIT, Client, Fault


async def strangers(url, identities):
    """No password, a wrong one, and another user's are all refused."""
    for user, password in ((None, None), ("router", "wrong"), ("acme", identities["router"]["password"])):
        try:
            async with Client(url, user, "_INBOX.x", user=user, password=password):
                raise Fault(f"connected as {user} with a wrong password")
        except nats.errors.Error:
            pass


async def make_streams(router):
    """What a router makes at its first start."""
    js = router.js
    # The subjects of results are added once the policies are in the log.
    for more in [], ["caf.exec.result.v1", "caf.exec.result.v1.*"]:
        log = StreamConfig(name="BEAMLINE_LOG", allow_direct=True, subjects=["beamline.router.v1.log.>", *more])
        await (js.update_stream(log) if more else js.add_stream(log))
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


async def newer_subjects(url, identities):
    """The log again, under ack and flow-control subjects that name domain and account."""
    async with Client.of(url, "router", identities) as router, \
            Client.of(url, "executor", identities) as executor:
        await make_streams(router)
        acked = await log(router, executor)
        if acked.startswith("$JS.ACK.BEAMLINE_LOG."):
            raise Fault(f"the newer ack subjects are not on: {acked}")


async def assignments(router, executor):
    """Each assignment reaches the executor under its headers, each ack every router; the executor hears no acks.
    The router learns by a status that nobody listens."""
    acks = [await router.nc.subscribe(subject) for subject in (
        "caf.exec.assign.v1.ack", "caf.exec.assign.v1.ack.*", "caf.exec.assign.v1.ack", "caf.exec.assign.v1.ack.*")]
    statuses = await router.nc.subscribe("_INBOX.router.assigned.*")
    await router.must_be_clean("acks")
    everything = await executor.nc.subscribe("caf.exec.assign.>")
    await executor.must_be_clean("assignments")
    for number, subject in enumerate(("caf.exec.assign.v1", "caf.exec.assign.v1.acme", "caf.exec.assign.gpu")):
        await router.nc.publish(subject, b"{}", f"_INBOX.router.assigned.{number}", {"Nats-Msg-Id": subject})
        job = await everything.next_msg(WAIT)
        if job.subject != subject or job.headers["Nats-Msg-Id"] != subject:
            raise Fault(f"{subject} came as {job.subject} with {job.headers}")
    for subject in ("caf.exec.assign.v1.ack", "caf.exec.assign.v1.ack.acme"):
        await executor.nc.publish(subject, b"{}")
        for heard in acks[subject.endswith(".acme")::2]:
            await heard.next_msg(WAIT)
    await executor.nc.flush(WAIT)
    if everything.pending_msgs:
        raise Fault("the executor hears acks")
    await router.nc.flush(WAIT)
    if statuses.pending_msgs:
        raise Fault(f"no executor, says {(await statuses.next_msg(WAIT)).headers}, and there is one")

    await everything.unsubscribe()
    await executor.nc.flush(WAIT)
    await router.nc.publish("caf.exec.assign.v1", b"{}", "_INBOX.router.assigned.none")
    status = await statuses.next_msg(WAIT)
    if status.subject != "_INBOX.router.assigned.none" or status.headers.get("Status") != "503":
        raise Fault(f"no executor listens, and the router learns {status.headers} on {status.subject}")
    await executor.must_be_clean("assignments")
    await router.must_be_clean("assignments")


async def listeners(router, listener):
    """An account that imports events and usage hears them, and nothing else of the routers' account."""
    heard = await listener.nc.subscribe(">")
    await listener.must_be_clean("the listener")
    await router.js.publish("beamline.router.v1.log.policy", b"{}", timeout=WAIT)
    for subject in ("beamline.router.v1.events.breaker.acme.openai", "beamline.usage.v1.metered"):
        await router.js.publish(subject, b"{}", timeout=WAIT)
        message = await heard.next_msg(WAIT)
        if message.subject != subject:
            raise Fault(f"the listener heard {message.subject}, not {subject}")
    await heard.unsubscribe()


async def conversations(url, identities):
    """What the users do all day, over one server."""
    async with contextlib.AsyncExitStack() as stack:
        router, operator, executor, gateway, acme = [
            await stack.enter_async_context(Client.of(url, user, identities))
            for user in USERS
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
        async with Client.of(url, "acme", identities, "_INBOX") as forgetful:
            await forgetful.nc.subscribe(forgetful.nc.new_inbox())
            if not await forgetful.refusals():
                raise Fault("a tenant may listen on any inbox")

        # Assignments out, acks and results back, with and without the tenant in the subject.
        await assignments(router, executor)
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
