"""Clusters that lose leaders and servers."""

from harness.broker import leader
from .stage import MAX_STALE_MS, Stage, scenario

LOG = "BEAMLINE_LOG"
R3 = ["--replicas", "3"]
# A worker that reads the log from a broker which stands still notices within seconds, and reads it from another one.
MOVED_MS = 12_000


async def three_and_two(stage: Stage):
    """Three brokers, two workers, load that has moved breakers."""
    cluster = await stage.cluster()
    workers = [stage.add(f"w{n}", cluster.urls(), R3) for n in range(2)]
    await stage.start(*workers)
    await stage.load(rate=stage.short(50.0, 80.0))
    await stage.runs(stage.short(5, 10))
    return cluster


@scenario("leader-kill", "SIGKILL of the broker that leads the log; it comes back after 8 s", short=True)
async def leader_kill(stage: Stage) -> None:
    cluster = await three_and_two(stage)
    jetstream = stage.operator.jetstream(timeout=2)
    killed = cluster.named(await leader(jetstream, LOG))
    stage.stale_ms = MOVED_MS
    killed.kill()
    await stage.runs(stage.short(4, 8))
    await leader(jetstream, LOG)
    await killed.start()
    await stage.whole(cluster)
    await stage.runs(stage.short(3, 8))


@scenario("leader-stopped", "SIGSTOP of the broker that leads the log for 15 s, then SIGCONT")
async def leader_stopped(stage: Stage) -> None:
    cluster = await three_and_two(stage)
    jetstream = stage.operator.jetstream(timeout=2)
    stopped = cluster.named(await leader(jetstream, LOG))
    stage.stale_ms = MOVED_MS
    stopped.pause()
    try:
        await stage.runs(15)
    finally:
        stopped.resume()
    await stage.whole(cluster)
    await stage.runs(8)


@scenario("quorum-loss", "two of three brokers die; workers report it, and go on when the two come back")
async def quorum_loss(stage: Stage) -> None:
    cluster = await three_and_two(stage)
    jetstream = stage.operator.jetstream(timeout=2)
    led = await leader(jetstream, LOG)
    # What was stamped before the loss can be read after it only.
    stage.stale_ms = MAX_STALE_MS
    gone = [broker for broker in cluster.brokers if broker.name != led]
    for broker in gone:
        broker.kill()
    for worker in stage.workers:
        await stage.demand(f"{worker.name} reports that the log is out of reach", 15, worker.reasons)
    await stage.runs(5)
    for broker in gone:
        await broker.start()
    await stage.whole(cluster)
    await stage.runs(8)


@scenario("rolling-restart", "each broker in turn is stopped by lame duck mode and started again", seconds=360.0)
async def rolling_restart(stage: Stage) -> None:
    cluster = await three_and_two(stage)
    for broker in cluster.brokers:
        await broker.lame_duck()
        await broker.start()
        await stage.whole(cluster)
        await stage.runs(3)
