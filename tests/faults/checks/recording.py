"""Recording: the log and the streams that follow from it, what executors and callers saw, what workers show."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from harness.load import Ack, Decision, Load
from harness.process import Failure, now_ms
from harness.worker import Look, Watch, Worker
from model.entries import Message

FETCH = 500
LOG, USAGE, EVENTS = "BEAMLINE_LOG", "BEAMLINE_USAGE", "BEAMLINE_EVENTS"


@dataclass
class Shown:
    """What a worker shows: asked between two moments, at one position."""

    name: str
    position: int
    digest: int
    since: int
    until: int
    breakers: list[dict[str, Any]]
    # Of `router_results_total`, by status and disposition; `None` where its counters began anew meanwhile.
    results: Optional[dict[str, int]]
    # The position up to which it had caught up when it became ready: what it counts comes after that.
    counted_from: int


@dataclass
class Recording:
    """All that the checks look at; `lost` are times (from, to) of which the log was put back or deleted."""

    log: list[Message]
    made: int
    sent: list[Ack]
    decisions: list[Decision]
    usage: list[dict[str, Any]]
    events: list[dict[str, Any]]
    workers: list[Shown]
    looks: dict[str, list[Look]]
    lost: list[tuple[int, int]] = field(default_factory=list)

    def to_json(self) -> str:
        """For a file, so that a fault can be looked at afterwards."""
        whole = asdict(self)
        whole["log"] = [message.to_json() for message in self.log]
        return json.dumps(whole)

    @staticmethod
    def from_json(text: str) -> "Recording":
        """What `to_json` wrote."""
        whole = json.loads(text)
        return Recording(**{
            **whole,
            "log": [Message.from_json(message) for message in whole["log"]],
            "sent": [Ack(**ack) for ack in whole["sent"]],
            "decisions": [Decision(**decision) for decision in whole["decisions"]],
            "workers": [Shown(**shown) for shown in whole["workers"]],
            "looks": {name: [Look(**look) for look in looks] for name, looks in whole["looks"].items()},
            "lost": [tuple(times) for times in whole["lost"]],
        })


async def read_stream(connection: Client, stream: str) -> list[tuple[Message, dict[str, str]]]:
    """Every message of a stream with its headers, by a consumer that does not acknowledge."""
    jetstream = connection.jetstream(timeout=5)
    state = (await jetstream.stream_info(stream)).state
    if not state.messages:
        return []
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True, num_replicas=1, inactive_threshold=30)
    consumer = await jetstream.pull_subscribe("", stream=stream, config=config)
    found: list[tuple[Message, dict[str, str]]] = []
    try:
        while not found or found[-1][0].position < state.last_seq:
            for raw in await consumer.fetch(FETCH, timeout=5):
                position, stamp = _place(raw.reply)
                headers = dict(raw.headers or {})
                message = Message(position, stamp // 1_000_000, raw.subject, headers.get("Nats-Msg-Id"), raw.data)
                found.append((message, headers))
    finally:
        await consumer.unsubscribe()
    positions = [message.position for message, _ in found]
    if positions != sorted(set(positions)):
        raise Failure(f"{stream} was not read in order")
    return found


def _place(reply: str) -> tuple[int, int]:
    """Sequence and stamp (ns), which the subject of a message's acknowledgement holds."""
    parts = reply.split(".")
    at = 5 if len(parts) == 9 else 7
    return int(parts[at]), int(parts[at + 2])


async def log_end(connection: Client) -> int:
    """The sequence of the log's last entry."""
    return (await connection.jetstream(timeout=5).stream_info(LOG)).state.last_seq


async def shown(worker: Worker, counted_from: int) -> Shown:
    """What a worker shows, if it stood still meanwhile."""
    since, before = now_ms(), await worker.place()
    breakers = [
        {**one, "settings": await worker.settings(one["tenant_id"], one["provider_id"])}
        for one in await worker.breakers()
    ]
    page = await worker.metrics()
    after, until = await worker.place(), now_ms()
    if before != after:
        raise RuntimeError(f"{worker.name} goes on: {before} {after}")
    results: Optional[Counter] = None
    if worker.steady:
        results = Counter()
        for labels, value in page["router_results_total"]:
            if value:
                results[f"{labels['status']} {labels['disposition']}"] += int(value)
    return Shown(worker.name, *after, since, until, breakers, None if results is None else dict(results), counted_from)


async def record(connection: Client, load: Load, workers: list[Worker], watch: Watch, counted_from: dict[str, int],
                 lost: list[tuple[int, int]]) -> Recording:
    """Reads all, once the log stands still and every worker has applied it."""
    end = await log_end(connection)
    places = {worker.name: (await worker.place())[0] for worker in workers}
    if set(places.values()) != {end}:
        raise RuntimeError(f"workers are at {places} of {end}")
    seen = []
    for worker in workers:
        one = await shown(worker, counted_from.get(worker.name, 0))
        if one.position != end:
            raise RuntimeError(f"{worker.name} is at {one.position} of {end}")
        seen.append(one)
    info = await connection.jetstream(timeout=5).stream_info(LOG)
    log = [message for message, _ in await read_stream(connection, LOG)]
    usage = [
        {"place": headers.get("Beamline-Log-Place"), **json.loads(message.body)}
        for message, headers in await read_stream(connection, USAGE)
    ]
    events = [
        json.loads(message.body) for message, _ in await read_stream(connection, EVENTS)
        if message.subject.startswith("beamline.router.v1.events.breaker.")
    ]
    if await log_end(connection) != end:
        raise RuntimeError("the log goes on")
    made = info.created
    return Recording(
        log, round(made.timestamp() * 1000) if made else 0, load.sent, load.decisions, usage, events, seen,
        {name: list(looks) for name, looks in watch.looks.items()}, lost,
    )
