"""Stores that are put back to an older state, whole or in parts, and a log that is deleted."""

import random
from typing import Optional

from checks.recording import log_end
from harness.load import control, done, policy
from harness.process import now_ms
from .stage import Stage, scenario

LOG = "BEAMLINE_LOG"
BUCKETS = ["KV_BEAMLINE_POLICIES", "KV_BEAMLINE_FLAGS"]


async def back_in_time(stage: Stage, names: Optional[list[str]], cold: bool = False) -> int:
    """Two workers under load, of whose broker the store, or these streams of it, is put back to 12 s ago; `cold`: while
    no worker runs. How far the log had come before."""
    broker = await stage.broker()
    await stage.start(stage.add("w0", broker.url), stage.add("w1", broker.url))
    # So that buckets have something to lose: a switch that was used.
    await done(stage.operator, "flag.set", {"scope": "global", "circuit_breaker_enabled": True, "reason": "begin"})
    await done(stage.operator, "policy.put", {"tenant_id": "gone", "policy": policy()})
    await stage.load(rate=50.0)
    await stage.runs(8)

    await broker.stop()
    saved, since = stage.folder / "saved", now_ms()
    broker.save(saved)
    await broker.start()
    await stage.all_ready()
    for timeout in (1100, 1200, 1300):
        for tenant in stage.tenants:
            await done(stage.operator, "policy.put", {"tenant_id": tenant, "policy": policy(timeout_ms=timeout)})
    for enabled in (False, True):
        body = {"scope": "global", "circuit_breaker_enabled": enabled, "reason": "between"}
        await done(stage.operator, "flag.set", body)
    await done(stage.operator, "policy.put", {"tenant_id": "new", "policy": policy()})
    await done(stage.operator, "policy.delete", {"tenant_id": "gone", "policy_id": "default"})
    await stage.runs(10)

    lost_end = await log_end(stage.operator)
    if cold:
        for worker in stage.workers:
            worker.kill()
    await broker.stop()
    broker.put_back(saved, names)
    if names is None or LOG in names:
        stage.lost.append((since, now_ms()))
    await broker.start()
    for worker in stage.workers:
        # The state is made anew: what it counted before is of another log.
        worker.steady = worker.steady and names == BUCKETS
        if cold:
            worker.launch()
    await stage.all_ready()
    return lost_end


async def changes_hold(stage: Stage) -> None:
    """A policy and the switch that are put now, and are answered as in force, hold on every worker."""
    put = await done(stage.operator, "policy.put", {"tenant_id": "t0", "policy": policy(timeout_ms=1700)})

    async def policy_holds() -> bool:
        shown = [(await worker.settings("t0", "alpha"))["timeout_ms"] for worker in stage.workers]
        if set(shown) != {1700}:
            raise RuntimeError(f"timeout_ms {shown}, revision {put['revision']}")
        return True
    await stage.demand("the policy that is answered as in force holds", 15, policy_holds)
    for enabled in (False, True):
        body = {"scope": "global", "circuit_breaker_enabled": enabled, "reason": "after"}
        await done(stage.operator, "flag.set", body)

        async def switched(enabled: bool = enabled) -> bool:
            off = {one["flag_off"] for worker in stage.workers for one in await worker.breakers()}
            return off == {not enabled}
        await stage.demand(f"flag {'on' if enabled else 'off'} that is answered as in force holds", 15, switched)


async def restarted_alike(stage: Stage) -> None:
    """A worker that starts now comes to the state of those that run; the judgement compares them."""
    worker = stage.workers[1]
    await worker.stop()
    worker.launch()
    await stage.all_ready()


@scenario("store-restored", "the whole store is put back to an older state", seconds=300.0)
async def store_restored(stage: Stage) -> None:
    await back_in_time(stage, None)
    await changes_hold(stage)
    await stage.runs(6)
    await restarted_alike(stage)
    await stage.runs(3)


@scenario("log-restored", "the log alone is put back to an older state: buckets and snapshots are newer", seconds=300.0)
async def log_restored(stage: Stage) -> None:
    lost_end = await back_in_time(stage, [LOG])
    await changes_hold(stage)

    # From here on the snapshots of the lost log are at positions that the log has again.
    async def passed() -> bool:
        return await log_end(stage.operator) > lost_end
    await stage.demand("the log is as long as it was", 60, passed)
    await restarted_alike(stage)
    await stage.runs(3)


async def buckets_hold(stage: Stage) -> None:
    """What the log holds in force is in force, and stands in the buckets again."""
    async def stands() -> bool:
        new = await control(stage.operator, "policy.get", {"tenant_id": "new", "policy_id": "default"})
        gone = await control(stage.operator, "policy.get", {"tenant_id": "gone", "policy_id": "default"})
        old = await control(stage.operator, "policy.get", {"tenant_id": "t1", "policy_id": "default"})
        found = {
            "new": new.get("error", {}).get("code") or new["policy"]["circuit_breaker"]["timeout_ms"],
            "gone": gone.get("error", {}).get("code") or "there",
            "t1": old.get("error", {}).get("code") or old["policy"]["circuit_breaker"]["timeout_ms"],
        }
        if found != {"new": 1000, "gone": "policy_not_found", "t1": 1300}:
            raise RuntimeError(str(found))
        return True
    await stage.demand("what is in force is written back", 40, stands)


@scenario(
    "buckets-restored", "the buckets of policies and flags alone are put back: their revisions go back", seconds=300.0,
)
async def buckets_restored(stage: Stage) -> None:
    await back_in_time(stage, BUCKETS)
    await changes_hold(stage)
    await buckets_hold(stage)
    await stage.runs(6)
    await restarted_alike(stage)
    await stage.runs(3)


@scenario(
    "buckets-restored-cold", "the same while no worker runs: those that start then find the log newer", seconds=300.0,
)
async def buckets_restored_cold(stage: Stage) -> None:
    await back_in_time(stage, BUCKETS, cold=True)
    await buckets_hold(stage)
    await changes_hold(stage)
    await stage.runs(6)


@scenario(
    "log-deleted",
    "the log's stream is deleted under load; two workers race to make it again, and one of them is killed meanwhile",
    short=True,
)
async def log_deleted(stage: Stage) -> None:
    broker = await stage.broker()
    await stage.start(stage.add("w0", broker.url), stage.add("w1", broker.url))
    await stage.load(rate=stage.short(50.0, 80.0))
    begin = now_ms()
    await stage.runs(stage.short(4, 8))
    jetstream = stage.operator.jetstream(timeout=5)
    first = (await jetstream.stream_info(LOG)).created
    for round_ in range(stage.short(1, 4)):
        await jetstream.delete_stream(LOG)
        if round_ % 2:
            # One dies somewhere between the steps of making it again.
            await stage.runs(random.uniform(0.0, 4.0))
            stage.workers[1].kill()
            stage.workers[1].launch()

        async def again() -> bool:
            return (await jetstream.stream_info(LOG)).created != first
        await stage.demand("the log is made again", 40, again)
        first = (await jetstream.stream_info(LOG)).created
        await stage.all_ready()
        await stage.runs(stage.short(4, 8))
    # What the last log does not hold was acknowledged by one before it, made before this moment.
    stage.lost.append((begin - 60_000, round(first.timestamp() * 1000)))
    for worker in stage.workers:
        worker.steady = False
