"""Operators that change the same things at once, in a cluster."""

import asyncio
from collections import Counter

from harness.load import control, policy
from .leaders import R3
from .stage import Stage, scenario


@scenario(
    "control-races",
    "puts and compare-and-sets race in a cluster: plain puts all succeed, of a race one wins and the rest conflict",
    seconds=300.0,
)
async def control_races(stage: Stage) -> None:
    cluster = await stage.cluster()
    await stage.start(*(stage.add(f"w{n}", cluster.urls(), R3) for n in range(3)))
    await stage.load(rate=20.0)
    plain: Counter[str] = Counter()
    for round_ in range(15):
        answers = await asyncio.gather(*(
            control(stage.operator, "policy.put", {"tenant_id": f"t{n % 3}", "policy": policy(timeout_ms=1000 + n)}, 15)
            for n in range(12)
        ))
        plain.update("ok" if answer["ok"] else answer["error"]["code"] for answer in answers)
    stage.note(f"plain puts: {dict(plain)}")
    if set(plain) != {"ok"}:
        stage.fault(f"plain puts that race fail: {dict(plain)}")

    lost: Counter[str] = Counter()
    for round_ in range(15):
        got = await control(stage.operator, "policy.get", {"tenant_id": "t4", "policy_id": "default"})
        answers = await asyncio.gather(*(
            control(stage.operator, "policy.put", {
                "tenant_id": "t4", "policy": policy(timeout_ms=1000 + 10 * round_ + n),
                "expected_revision": got["revision"],
            }, 15)
            for n in range(6)
        ))
        won = sum(answer["ok"] for answer in answers)
        lost.update(answer["error"]["code"] for answer in answers if not answer["ok"])
        if won != 1:
            stage.fault(f"{won} of 6 compare-and-sets on revision {got['revision']} succeed")
    stage.note(f"lost races: {dict(lost)}")
    if set(lost) - {"conflict"}:
        stage.fault(f"lost races are answered otherwise than with conflict: {dict(lost)}")
    await stage.runs(2)
