"""The attack by reply subject: what executors and tenants reach with the answer to what they may publish.

NATS does not check the reply subject of a publisher. Each attacker publishes where it may, and names each of VICTIMS
as the reply subject. A spy in the routers' account, which hears all of it, sees what comes of that.
"""

import asyncio
import contextlib
import json

from .broker import WAIT, Client, Fault
from .conversations import listeners, make_streams
from nats.js.api import ConsumerConfig, KeyValueConfig, StreamConfig

POLICY = "$KV.BEAMLINE_POLICIES.acme.default"

# What nobody but a router or an operator may write to.
VICTIMS = [
    POLICY,
    "$KV.BEAMLINE_FLAGS.global",
    "$KV.BEAMLINE_SNAPSHOTS.a.1.manifest",
    "beamline.usage.v1.metered",
    "beamline.router.v1.events.breaker.acme.openai",
    "beamline.router.v1.log.policy",
    "beamline.router.v1.rollout.cb.plan",
    "beamline.router.control.v1.policy.delete",
    "beamline.router.v1.decide",
    "beamline.router.v1.tenant.globex.decide",
    "beamline.router.v1.decide.reply",
    "caf.exec.assign.v1",
    "caf.exec.assign.v1.globex",
    "caf.exec.assign.v1.ack",
    "caf.exec.assign.v1.ack.globex",
    "caf.exec.result.v1",
    "caf.exec.result.v1.globex",
    "$JS.API.STREAM.PURGE.KV_BEAMLINE_FLAGS",
    "$JS.API.STREAM.MSG.DELETE.BEAMLINE_EVENTS",
    "$JS.API.STREAM.DELETE.BEAMLINE_USAGE",
    "$JS.API.CONSUMER.DELETE.BEAMLINE_LOG.usage",
    "$JS.API.CONSUMER.MSG.NEXT.BEAMLINE_LOG.usage",
    "$JS.ACK.BEAMLINE_LOG.usage.1.1.1.1.0",
    "$JS.ACK._.hash.BEAMLINE_LOG.usage.1.1.1.1.0",
    "$JS.FC.BEAMLINE_LOG.reader.x",
    "$JS.FC._.hash.BEAMLINE_LOG.reader.x",
    "$SRV.INFO.beamline-router",
    "_INBOX.router.x",
    "_INBOX.router.assigned.x",
    "_INBOX.operator.x",
    "_R_.x",
]

# Reply subjects that the server refuses from any client.
RESERVED = ("$JS.ACK.", "_R_.")

# All streams but the log, which results may enter.
STREAMS = ["KV_BEAMLINE_POLICIES", "KV_BEAMLINE_FLAGS", "KV_BEAMLINE_SNAPSHOTS",
           "BEAMLINE_EVENTS", "BEAMLINE_USAGE", "BEAMLINE_ROLLOUTS"]

# Subjects of the attack, by the user who may publish there.
WAYS = [
    ("executor", "caf.exec.result.v1"),
    ("executor", "caf.exec.result.v1.acme"),
    ("executor", "caf.exec.assign.v1.ack"),
    ("executor", "caf.exec.assign.v1.ack.acme"),
    ("gateway", "beamline.router.v1.decide"),
    ("gateway", "beamline.router.v1.tenant.acme.decide"),
    ("acme", "beamline.router.v1.tenant.acme.decide"),
]


class Spy:
    """All that is published in an account, in order."""

    def __init__(self, client):
        self.client, self.heard, self.marks, self.marked = client, [], 0, asyncio.Event()

    async def listen(self):
        async def hear(message):
            if message.subject == f"mark.{self.marks}":
                self.marked.set()
            else:
                self.heard.append(message)

        await self.client.nc.subscribe(">", cb=hear)
        await self.client.must_be_clean("the spy")

    async def since(self):
        """What was heard since the last call, up to what the server has handled by now."""
        self.marks += 1
        self.marked.clear()
        await self.client.nc.publish(f"mark.{self.marks}", b"")
        await asyncio.wait_for(self.marked.wait(), WAIT)
        heard, self.heard = self.heard, []
        return heard


async def prepare(router):
    """Streams and buckets with something in them, and the answers that a router gives: to inboxes alone."""
    await make_streams(router)
    await router.js.add_stream(StreamConfig(name="BEAMLINE_ROLLOUTS", subjects=["beamline.router.v1.rollout.>"]))
    for bucket in ("BEAMLINE_POLICIES", "BEAMLINE_FLAGS", "BEAMLINE_SNAPSHOTS"):
        await router.js.create_key_value(KeyValueConfig(bucket=bucket, history=64, direct=True))
    for subject in (POLICY, "$KV.BEAMLINE_FLAGS.global", "$KV.BEAMLINE_SNAPSHOTS.a.1.manifest",
                    "beamline.router.v1.events.breaker.acme.openai", "beamline.usage.v1.metered",
                    "beamline.router.v1.log.policy", "beamline.router.v1.rollout.cb.plan"):
        for number in range(3):
            await router.js.publish(subject, json.dumps({"number": number}).encode(), timeout=WAIT)
    await router.js.add_consumer("BEAMLINE_LOG", ConsumerConfig(durable_name="usage"))

    async def decide(message):
        if message.reply.startswith(("_INBOX.", "_R_.")):
            await router.nc.publish(message.reply, b'{"ok":true}')

    for subject in ("beamline.router.v1.decide", "beamline.router.v1.tenant.*.decide"):
        await router.nc.subscribe(subject, queue="beamline-router", cb=decide)
    await router.must_be_clean("preparations")


async def contents(router):
    """How many messages each stream has, and its last sequence."""
    states = {name: (await router.js.stream_info(name)).state for name in STREAMS}
    return {name: (state.messages, state.last_seq) for name, state in states.items()}


def attacked(heard):
    """Whether a message of the attack is among those that were heard."""
    return any((message.headers or {}).get("Attack") for message in heard)


async def once(attacker, subject, victim, spy):
    """Publishes with the forged reply subject. Whether the routers' account saw it as a reply subject, and whether
    an answer came there."""
    await attacker.nc.publish(subject, b'{"tenant_id":"acme"}', victim, {"Attack": victim})
    # What the server does next for this connection it does after this.
    if ".ack" in subject:
        await attacker.nc.flush(WAIT)
    else:
        await attacker.nc.request(subject, b'{"tenant_id":"acme"}', timeout=WAIT)
    heard = await spy.since()
    # The server's answer to a flush does not say that another account has the message by then.
    end = asyncio.get_running_loop().time() + WAIT
    while not attacked(heard) and not victim.startswith(RESERVED) and asyncio.get_running_loop().time() < end:
        heard += await spy.since()
    crossed = attacked(heard)
    if crossed == victim.startswith(RESERVED):
        raise Fault(f"{subject} with the reply subject {victim} {'came' if crossed else 'did not come'} to the routers")
    named = any(message.reply == victim for message in heard)
    # An answer has neither the mark of the attack nor a reply subject.
    reached = any(message.subject == victim and not message.reply and "Attack" not in (message.headers or {})
                  for message in heard)
    return named, reached


async def erase_history(router, executor):
    """64 results under a reply subject that is a key of a bucket with 64 revisions. What is left of the policy."""
    for _ in range(64):
        await executor.nc.publish("caf.exec.result.v1", b"{}", POLICY)
    await executor.nc.request("caf.exec.result.v1", b"{}", timeout=WAIT)
    policies = await router.js.key_value("BEAMLINE_POLICIES")
    return [json.loads(entry.value) for entry in await policies.history("acme.default")]


async def all_ways(url, identities, apart):
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        router = await enter(Client.of(url, "router", identities))
        spy = Spy(await enter(Client.of(url, "spy", identities)))
        attackers = {user: await enter(Client.of(url, user, identities)) for user in {user for user, _ in WAYS}}
        await prepare(router)
        if apart and "listener" in identities:
            await listeners(router, await enter(Client.of(url, "listener", identities)))
        before = await contents(router)
        await spy.listen()
        named, reached = set(), set()
        for user, subject in WAYS:
            for victim in VICTIMS:
                seen, came = await once(attackers[user], subject, victim, spy)
                named.update([(user, subject, victim)] if seen else [])
                reached.update([(user, subject, victim)] if came else [])
        after = await contents(router)
        changed = {name for name in before if before[name] != after.get(name)}
        left = await erase_history(router, attackers["executor"])
        return named, reached, changed, [entry for entry in left if "number" in entry]


def faults_of(apart, named, reached):
    """What the routers' account must not see as a reply subject, and where answers must not come. In one account
    they must: else the attack proves nothing."""
    every = {(*way, victim) for way in WAYS for victim in VICTIMS if not victim.startswith(RESERVED)}
    within_reach = {way for way in every if way[1].startswith("caf.exec.result.")
                    or way[1].endswith(".decide") and way[2].startswith("_INBOX.")}
    if apart:
        # By its own imports an attacker reaches where it may publish itself, with a body not of its choice.
        yield "the routers' account sees the forged reply subject", named
        yield "an answer arrived", {way for way in reached if (way[0], way[2]) not in WAYS}
    else:
        yield "the routers' account does not see the reply subject, and the attack proves nothing", every - named
        yield "no answer arrived, and the attack proves nothing", within_reach - reached
        yield "an answer arrived, and it should not be worse than documented", reached - within_reach


def attack(url, identities, apart):
    """Attacks a server whose users are in one account, or apart; a sentence on what came of it."""
    named, reached, changed, left = asyncio.run(all_ways(url, identities, apart))
    faults = [f"{what}: {' '.join(way)}" for what, ways in faults_of(apart, named, reached)
              for way in sorted(ways)]
    if len(changed) != (0 if apart else len(STREAMS)):
        faults.append(f"the streams that changed are {sorted(changed)}")
    if len(left) != (3 if apart else 0):
        faults.append(f"of the policy's three revisions these are left after 64 results: {left}")
    if faults:
        raise Fault("\n  ".join(["the attack by reply subject did not end as it should:", *faults]))
    tried = len(WAYS) * len(VICTIMS)
    return f"{len(reached)} of {tried} forged reply subjects were reached, {len(changed)} streams changed, " \
           f"{len(left)} of a policy's 3 revisions were left"
