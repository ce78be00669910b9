"""Load: callers that ask for decisions and executors that report results, with a record of all that they saw.

A provider fails by a schedule, so that breakers open, probe and close all the time, whatever else happens. A result is
published through JetStream under its `Nats-Msg-Id` until it is acknowledged, as docs/protocol.md demands of executors.
"""

import asyncio
import contextlib
import json
import random
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

import nats
from nats.aio.client import Client

from .process import eventually, now_ms

DECIDE = "beamline.router.v1.decide"
RESULT = "caf.exec.result.v1"
CONTROL = "beamline.router.control.v1."
# Results that wait for an acknowledgement at most: while the log is away nothing more is sent than this.
MOST_PENDING = 1500


@dataclass
class Ack:
    """A result that was sent. `position` is that of its acknowledgement, `None` as long as there is none."""

    msg_id: str
    tenant: str
    provider: str
    assignment_id: str
    status: str
    sent: int
    position: Optional[int] = None
    acknowledged: Optional[int] = None
    duplicate: bool = False
    tries: int = 0


@dataclass
class Decision:
    """An answer to a decide request, and when it was asked and got, by this machine's clock."""

    caller: str
    request_id: str
    tenant: str
    asked: int
    got: int
    provider: Optional[str]
    probe: bool
    position: Optional[int]
    error: Optional[str]
    stale: bool = False

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def policy(**breaker: Any) -> dict[str, Any]:
    """A policy over three providers whose breakers open and recover within seconds."""
    return {
        "policy_id": "default",
        "providers": [{"name": "alpha", "weight": 40}, {"name": "beta", "weight": 40}, {"name": "gamma", "weight": 20}],
        "circuit_breaker": {
            "enabled": True, "failure_threshold": 4, "error_rate_window_seconds": 10, "minimum_requests": 10,
            "timeout_ms": 1000, "success_threshold": 2, "half_open_max_calls": 2, "probe_timeout_ms": 3000,
            "backoff_multiplier": 2, "max_timeout_ms": 4000, **breaker,
        },
    }


def tenants(count: int) -> list[str]:
    """Their names."""
    return [f"t{n}" for n in range(count)]


class Health:
    """Which providers fail when: each fails for a part of a cycle, and the tenants' parts are shifted."""

    def __init__(self, cycle: float = 8.0, down: float = 3.0) -> None:
        self.cycle, self.down = cycle, down
        self.well = False

    def status(self, tenant: str, provider: str) -> str:
        """How a call goes now."""
        shift = {"alpha": 0.0, "beta": self.cycle / 2}.get(provider)
        if self.well or shift is None:
            return "success"
        phase = (time.monotonic() + shift + 0.7 * int(tenant[1:])) % self.cycle
        if phase < self.down:
            return random.choice(("error", "timeout"))
        return "success" if random.random() > 0.02 else random.choice(("error", "cancelled"))


async def connect(servers: str | list[str], name: str) -> Client:
    """A connection that notices within seconds that its server stands still, and tries for ever."""
    async def ignore(_: Exception) -> None:
        """What goes wrong is told to whoever waits for an answer."""
    urls = servers.split(",") if isinstance(servers, str) else servers
    return await nats.connect(
        urls, name=name, max_reconnect_attempts=-1, reconnect_time_wait=0.2, ping_interval=2,
        max_outstanding_pings=2, connect_timeout=2, error_cb=ignore, pending_size=64 * 1024 * 1024,
    )


@dataclass
class Load:
    """Callers and executors over some tenants."""

    servers: str
    tenants: list[str]
    rate: float = 80.0
    health: Health = field(default_factory=Health)
    # Where callers connect, if not where executors do.
    callers: dict[str, str] = field(default_factory=dict)
    sent: list[Ack] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    unanswered: int = 0
    copies: int = 0

    async def begin(self) -> "Load":
        """Connects and starts."""
        self.stack = contextlib.AsyncExitStack()
        self.pending: set[asyncio.Task] = set()
        self.tasks: list[asyncio.Task] = []
        self.publisher = await connect(self.servers, "executors")
        # No answer within 2 s: the result is sent again, under its name.
        self.jetstream = self.publisher.jetstream(timeout=2)
        self.connections = [self.publisher]
        for name, servers in (self.callers or {"callers": self.servers}).items():
            connection = await connect(servers, name)
            self.connections.append(connection)
            self.tasks.append(asyncio.ensure_future(self._ask_all(name, connection)))
        return self

    async def quiet(self) -> None:
        """Stops asking; executors go on until all is acknowledged."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []

        async def none_pending() -> bool:
            return not self.pending
        await eventually("every result is acknowledged", 90, none_pending)

    async def end(self) -> None:
        """Ends whatever runs, and closes the connections."""
        for task in [*self.tasks, *self.pending]:
            task.cancel()
        await asyncio.gather(*self.tasks, *self.pending, return_exceptions=True)
        for connection in self.connections:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), 3)

    async def _ask_all(self, name: str, connection: Client) -> None:
        """Asks at the rate, each request in a task of its own so that slow answers do not slow the others."""
        due = time.monotonic()
        while True:
            due = max(due + 1 / self.rate, time.monotonic() - 1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(self.pending) < MOST_PENDING:
                self._spawn(self._one(name, connection, random.choice(self.tenants)))

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.pending.add(task)
        task.add_done_callback(self.pending.discard)

    async def _one(self, name: str, connection: Client, tenant: str) -> None:
        request_id = str(uuid.uuid4())
        request = {
            "version": "1", "request_id": request_id, "tenant_id": tenant, "explain": True,
            "task": {"type": "text.generate", "payload_ref": "s3://prompts/1"},
        }
        asked = now_ms()
        try:
            answer = json.loads((await connection.request(DECIDE, json.dumps(request).encode(), timeout=2)).data)
        except Exception:  # Timeouts, no responders, a connection that is away: the client asks anew later.
            self.unanswered += 1
            return
        decision = answer.get("decision") or {}
        explanation = decision.get("explanation") or {}
        self.decisions.append(Decision(
            name, request_id, tenant, asked, now_ms(), decision.get("provider_id"), bool(decision.get("probe")),
            explanation.get("position"), (answer.get("error") or {}).get("code"), bool(decision.get("stale")),
        ))
        if answer["ok"]:
            provider = decision["provider_id"]
            latency = random.randint(1, 40)
            await asyncio.sleep(latency / 1000)
            await self.report(tenant, provider, request_id, self.health.status(tenant, provider), latency)

    async def report(self, tenant: str, provider: str, request_id: str, status: str, latency: int) -> Ack:
        """Publishes a result until it is acknowledged."""
        assignment = str(uuid.uuid4())
        body = json.dumps({
            "assignment_id": assignment, "request_id": request_id, "tenant_id": tenant, "provider_id": provider,
            "status": status, "latency_ms": latency, "job": {"type": "text.generate"},
            **({"error_code": "503"} if status == "error" else {}),
        }).encode()
        ack = Ack(f"{tenant}:{assignment}", tenant, provider, assignment, status, now_ms())
        self.sent.append(ack)
        # One in fifty comes twice under two names, so that the router and not the stream has to know the copy.
        names = [ack.msg_id] + ([f"{ack.msg_id}:copy"] if random.random() < 0.02 else [])
        for name in names:
            while True:
                ack.tries += 1
                try:
                    got = await self.jetstream.publish(RESULT, body, headers={"Nats-Msg-Id": name}, timeout=2)
                except Exception:  # The log is away: the executor keeps the result and sends it again.
                    await asyncio.sleep(0.25)
                    continue
                if name == ack.msg_id:
                    ack.position, ack.duplicate, ack.acknowledged = got.seq, bool(got.duplicate), now_ms()
                else:
                    self.copies += 1
                break
        return ack


async def control(connection: Client, verb: str, body: dict[str, Any], timeout: float = 10.0) -> dict[str, Any]:
    """A control request: the answer, whatever it says."""
    return json.loads((await connection.request(CONTROL + verb, json.dumps(body).encode(), timeout=timeout)).data)


async def done(connection: Client, verb: str, body: dict[str, Any], seconds: float = 60.0) -> dict[str, Any]:
    """A control request that is repeated until it is done and, where the answer says so, in force."""
    async def ask() -> Optional[dict[str, Any]]:
        answer = await control(connection, verb, body)
        if not answer.get("ok") or answer.get("in_force") is False:
            raise RuntimeError(json.dumps(answer)[:300])
        return answer
    return await eventually(f"{verb} is done", seconds, ask, every=0.5)
