"""Workers that are killed, and workers that stand still."""

import asyncio
import json
import random
import uuid

from harness.load import CONTROL
from .stage import Stage, scenario

# The events' stream knows copies for five minutes.
LONG = 330


@scenario(
    "worker-kills", "twenty SIGKILLs of workers under load, at least one of three being up", seconds=420.0, short=True,
)
async def worker_kills(stage: Stage) -> None:
    broker = await stage.broker()
    await stage.start(*(stage.add(f"w{n}", broker.url) for n in range(3)))
    await stage.load(rate=stage.short(50.0, 80.0))
    await stage.runs(stage.short(3, 6))
    for at in range(stage.short(6, 20)):
        # The last one is never killed: its counters run all the time.
        worker = stage.workers[at % 2]
        worker.kill()
        await stage.runs(random.uniform(0.1, stage.short(0.3, 1.5)))
        worker.launch()
        if random.random() < 0.7:
            await worker.ready()
    await stage.all_ready()
    await stage.runs(3)


@scenario(
    "workers-away",
    "all workers are killed; executors report failures that open breakers meanwhile; then the workers start",
)
async def workers_away(stage: Stage) -> None:
    broker = await stage.broker()
    await stage.start(stage.add("w0", broker.url), stage.add("w1", broker.url))
    load = await stage.load(rate=30.0)
    await stage.runs(5)
    for worker in stage.workers:
        worker.kill()
    for tenant in stage.tenants:
        for _ in range(6):
            await load.report(tenant, "gamma", str(uuid.uuid4()), "error", 5)
    for worker in stage.workers:
        worker.launch()
    await stage.all_ready()
    await stage.runs(5)


@scenario(
    "worker-stopped",
    f"one worker of two stands still (SIGSTOP) for {LONG} s, longer than the events' stream knows copies",
    seconds=600.0,
)
async def worker_stopped(stage: Stage) -> None:
    broker = await stage.broker()
    await stage.start(stage.add("w0", broker.url), stage.add("w1", broker.url))
    await stage.load(rate=20.0)
    await stage.runs(6)
    stage.workers[1].pause()
    try:
        await stage.runs(LONG)
    finally:
        stage.workers[1].resume()
    await stage.all_ready()
    await stage.runs(5)


@scenario(
    "late-command",
    "forces wait in the socket of a stopped worker; a newer one is done meanwhile, and must stay when it goes on",
)
async def late_command(stage: Stage) -> None:
    broker = await stage.broker()
    await stage.start(stage.add("w0", broker.url, ["--console-actions"]), stage.add("w1", broker.url))
    await stage.load(rate=30.0)
    await stage.runs(4)
    stage.workers[1].pause()
    try:
        body = {"tenant_id": "t0", "provider_id": "gamma", "state": "open", "reason": "early"}

        async def command() -> bool:
            """Whether nobody answers: it waits in the socket of the worker that stands still."""
            try:
                await stage.operator.request(CONTROL + "breaker.force", json.dumps(body).encode(), timeout=1.5)
                return False
            except asyncio.TimeoutError:
                return True
        waiting = sum(await asyncio.gather(*(command() for _ in range(8))))
        stage.note(f"{waiting} of 8 forces wait")
        if not waiting:
            stage.fault("no command waits in the stopped worker")
        await stage.runs(6)
        # By the other worker itself: a request could wait behind the older ones, and come after them.
        await stage.workers[0].force("t0", "gamma", "closed", "newer")
    finally:
        stage.workers[1].resume()
    await stage.all_ready()
    await stage.runs(8)
    for worker in stage.workers:
        forced = next(
            one["forced"] for one in await worker.breakers()
            if (one["tenant_id"], one["provider_id"]) == ("t0", "gamma")
        )
        if not forced or forced["state"] != "closed":
            stage.fault(f"{worker.name} has {forced}: a command that waited was carried out over a newer one")
