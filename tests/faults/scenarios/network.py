"""Hosts that cannot reach each other: brokers in namespaces of their own, with a worker beside each."""

import asyncio

from harness.broker import Broker, Cluster, leader
from harness.network import Network, lacking
from harness.process import free_port
from .leaders import LOG, R3
from .stage import MAX_STALE_MS, Stage, scenario

# The worker's own look (a second), what it waits for an answer, and a busy machine.
NOTICED = 10.0


async def hosts(stage: Stage) -> tuple[Network, Cluster]:
    """Three hosts under load, each with a broker and a worker that knows no other; callers ask each worker by itself."""
    network = stage.stack.enter_context(Network(["a", "b", "c"]))
    route = free_port()
    known = ", ".join(f'"nats-route://{host.inner}:{route}"' for host in network.hosts.values())
    brokers = []
    for name, host in network.hosts.items():
        more = (
            f'cluster {{ name: faults, listen: "{host.inner}:{route}", routes: [{known}], no_advertise: true }}\n'
            'write_deadline: "2s"'
        )
        brokers.append(Broker(
            stage.options.nats_server, stage.folder, name, more, host=host.outer, prefix=host.within(),
        ))
    cluster = Cluster(brokers)
    stage.stack.callback(cluster.kill)
    await cluster.start()
    stage.operators_url = cluster.urls()
    workers = [
        stage.add(f"w-{name}", cluster.named(name).url, R3, host=host.outer, prefix=host.within())
        for name, host in network.hosts.items()
    ]
    await stage.start(*workers)
    callers = {broker.name: broker.url for broker in brokers}
    # By time, a worker beside an isolated server may decide by an old state.
    stage.named_ms = {name: MAX_STALE_MS for name in callers}
    await stage.load(rate=30.0, callers=callers)
    await stage.runs(8)
    return network, cluster


@scenario(
    "leader-isolated",
    "the log's leader is cut from its peers, three times for 12 s and once for 45 s; the worker beside it must say so",
    seconds=420.0, lacking=lacking,
)
async def leader_isolated(stage: Stage) -> None:
    network, cluster = await hosts(stage)
    jetstream = stage.operator.jetstream(timeout=2)
    for seconds in (12, 12, 12, 45):
        name = await leader(jetstream, LOG)
        host, worker = network.hosts[name], next(w for w in stage.workers if w.name == f"w-{name}")
        host.isolate()
        try:
            await asyncio.gather(
                stage.demand(f"{worker.name} beside the isolated leader reports not ready", NOTICED, worker.reasons),
                stage.runs(seconds),
            )
        finally:
            host.heal()
        await stage.whole(cluster)
        await stage.all_ready(30)
        await stage.runs(3)


@scenario(
    "leader-muted",
    "what the log's leader sends to its peers is lost for 20 s, while it hears them",
    seconds=300.0, lacking=lacking,
)
async def leader_muted(stage: Stage) -> None:
    network, cluster = await hosts(stage)
    jetstream = stage.operator.jetstream(timeout=2)
    name = await leader(jetstream, LOG)
    host, worker = network.hosts[name], next(w for w in stage.workers if w.name == f"w-{name}")
    others = [other for other in network.hosts.values() if other is not host]
    for other in others:
        host.mute_towards(other)
    try:
        await asyncio.gather(
            stage.demand(f"{worker.name} beside the muted leader reports not ready", NOTICED + 5, worker.reasons),
            stage.runs(20),
        )
    finally:
        for other in others:
            host.speak_to(other)
    await stage.whole(cluster)
    await stage.all_ready(30)
    await stage.runs(5)


@scenario(
    "silent-cut",
    "the link of one worker of two is down for 20 s: no packet, no reset; it must say so, and come back",
    lacking=lacking,
)
async def silent_cut(stage: Stage) -> None:
    network = stage.stack.enter_context(Network(["broker", "worker"]))
    near, far = network.hosts["broker"], network.hosts["worker"]
    # It listens on both of its addresses; clients of this program come by the outer one.
    broker = Broker(
        stage.options.nats_server, stage.folder, "n0", 'write_deadline: "2s"', host="0.0.0.0", prefix=near.within(),
    )
    broker.host = near.outer
    stage.stack.callback(broker.kill)
    await broker.start()
    stage.operators_url = broker.url
    beyond = stage.add("w-far", f"nats://{near.inner}:{broker.port}", host=far.outer, prefix=far.within())
    beside = stage.add("w-near", broker.url)
    await stage.start(beyond, beside)
    await stage.load(rate=50.0)
    await stage.runs(8)
    far.isolate()
    try:
        await asyncio.gather(
            stage.demand("w-far reports not ready", NOTICED, beyond.reasons), stage.runs(20),
        )
    finally:
        far.heal()

    async def is_ready() -> bool:
        return not await beyond.reasons()
    await stage.demand("w-far is ready again", 15, is_ready)
    await stage.runs(5)
