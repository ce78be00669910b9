"""Paths between a worker and its broker that are slow, go one way, or forget a connection: through a relay."""

import asyncio

from .stage import Stage, scenario

# The worker's own look (a second), what it waits for an answer, and a busy machine.
NOTICED = 10.0
# And new connections; a server that does not answer at all is left after 30 s.
RECONNECTED = 15.0


async def behind_a_relay(stage: Stage, flags: list[str] | None = None):
    """A broker, a worker behind a relay, and one that is not."""
    broker = await stage.broker(more='write_deadline: "2s"')
    relay = await stage.relay(broker)
    behind = stage.add("w-relay", relay.url, flags)
    direct = stage.add("w-direct", broker.url, flags)
    await stage.start(behind, direct)
    await stage.load(rate=50.0)
    await stage.runs(stage.short(5, 8))
    return relay, behind


@scenario(
    "connection-frozen",
    "the connections of one worker of two stop in silence, new ones pass: it must make new ones within 15 s",
    short=True,
)
async def connection_frozen(stage: Stage) -> None:
    relay, behind = await behind_a_relay(stage)
    # Its connections come back one by one: it may decide again before it reads the log again.
    stage.stale_ms = int(RECONNECTED * 1_000)
    before = (await behind.place())[0]
    relay.freeze_present()
    stood = await behind.place()

    async def moves() -> bool:
        return (await behind.place())[0] > max(before, stood[0]) + 20
    await stage.demand("w-relay reads the log again", RECONNECTED, moves)
    await stage.runs(stage.short(3, 8))


@scenario("one-way-in", "for 15 s nothing comes from the broker to one worker of two; what it sends arrives")
async def one_way_in(stage: Stage) -> None:
    relay, behind = await behind_a_relay(stage)
    relay.from_target.stop()
    try:
        await asyncio.gather(stage.demand("w-relay reports not ready", NOTICED, behind.reasons), stage.runs(15))
    finally:
        relay.from_target.go()

    async def is_ready() -> bool:
        return not await behind.reasons()
    await stage.demand("w-relay is ready again", 15, is_ready)
    await stage.runs(5)


@scenario("one-way-out", "for 15 s nothing that one worker of two sends arrives; it hears the broker")
async def one_way_out(stage: Stage) -> None:
    relay, behind = await behind_a_relay(stage)
    relay.to_target.stop()
    try:
        await asyncio.gather(stage.demand("w-relay reports not ready", NOTICED, behind.reasons), stage.runs(15))
    finally:
        relay.to_target.go()

    async def is_ready() -> bool:
        return not await behind.reasons()
    await stage.demand("w-relay is ready again", 15, is_ready)
    await stage.runs(5)


@scenario("slow-path", "a round trip of 200 ms between the only worker and the broker: breakers must recover")
async def slow_path(stage: Stage) -> None:
    broker = await stage.broker()
    relay = await stage.relay(broker)
    worker = stage.add("w-relay", relay.url)
    relay.to_target.delay = relay.from_target.delay = 0.1
    await stage.start(worker)
    load = await stage.load(rate=50.0)
    await stage.runs(15)
    # From now on every provider serves: whatever is open has to be probed and closed.
    load.health.well = True

    async def all_closed() -> bool:
        return all(one["state"] == "closed" for one in await worker.breakers())
    await stage.demand("every breaker closes", 40, all_closed)
    relay.to_target.delay = relay.from_target.delay = 0.0
