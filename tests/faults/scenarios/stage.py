"""What a scenario has at hand, and how it ends: a stage with brokers, workers and load, and the judgement of it all."""

import asyncio
import contextlib
import pathlib
import time
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable, Optional

from checks.checks import judge, lines
from checks.recording import Recording, record
from harness import disk
from harness.broker import Broker, Cluster, healed
from harness.load import Load, connect, done, policy, tenants
from harness.process import Failure, eventually
from harness.relay import Relay
from harness.worker import Watch, Worker

# An admission to a breaker that opened longer ago than this, while nothing is wrong: on a machine that builds beside.
STALE_MS = 4_000
# How old a state may be by which a worker decides that has lost the log: the default of --max-stale-ms, and what a
# busy machine adds.
MAX_STALE_MS = 30_000 + 5_000
# How long what follows from the log (usage, events, workers that catch up) may take once all is well again.
SETTLE = 60.0
# So that every scenario has snapshots.
FLAGS = ["--snapshot-every", "500"]
REPLICATED = [
    "BEAMLINE_LOG", "BEAMLINE_USAGE", "BEAMLINE_EVENTS", "KV_BEAMLINE_POLICIES", "KV_BEAMLINE_FLAGS",
    "KV_BEAMLINE_SNAPSHOTS",
]


@dataclass
class Options:
    """How the scenarios run."""

    root: pathlib.Path
    program: str
    nats_server: str
    short: bool
    keep: pathlib.Path
    keep_all: bool = False


@dataclass
class Scenario:
    """A scenario: `run` sets up, breaks and heals; the stage judges."""

    name: str
    about: str
    run: Callable[["Stage"], Awaitable[None]]
    # No scenario takes longer than this, whatever goes wrong.
    seconds: float = 240.0
    short: bool = False
    lacking: Callable[[], Optional[str]] = lambda: None


SCENARIOS: list[Scenario] = []


def scenario(name: str, about: str, **more: Any) -> Callable[[Callable], Callable]:
    """Adds a function to the scenarios."""
    def add(run: Callable[["Stage"], Awaitable[None]]) -> Callable:
        SCENARIOS.append(Scenario(name, about, run, **more))
        return run
    return add


@dataclass
class Verdict:
    """How a scenario ended."""

    faults: list[str]
    figures: dict[str, int]
    notes: list[str] = field(default_factory=list)


class Stage:
    """Everything of one scenario. What it starts ends when it is left."""

    def __init__(self, options: Options, name: str) -> None:
        self.options, self.name = options, name
        self.workers: list[Worker] = []
        self.watch = Watch([])
        self.faults: list[str] = []
        self.notes: list[str] = []
        self.lost: list[tuple[int, int]] = []
        self.counted_from: dict[str, int] = {}
        self.tenants = tenants(6)
        self.load_: Optional[Load] = None
        self.recording: Optional[Recording] = None
        self.stale_ms = STALE_MS
        self.named_ms: dict[str, int] = {}
        self.without: tuple[str, ...] = ()
        self.operators_url = ""

    async def __aenter__(self) -> "Stage":
        self.stack = contextlib.AsyncExitStack()
        self.folder = pathlib.Path(self.stack.enter_context(disk.folder()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.watch.end()
        if self.load_:
            await self.load_.end()
        for worker in self.workers:
            worker.kill()
        await self.stack.aclose()

    def short(self, short: Any, full: Any) -> Any:
        """One of two numbers: of the short form, or of the full one."""
        return short if self.options.short else full

    def note(self, text: str) -> None:
        """A figure of this scenario's own."""
        self.notes.append(text)

    def fault(self, text: str) -> None:
        """Something that must hold and did not."""
        self.faults.append(text)

    async def demand(self, what: str, seconds: float, condition: Callable[[], Awaitable[Any]]) -> bool:
        """Waits for what must come about; where it does not, that is a fault, and the scenario goes on."""
        began = time.monotonic()
        try:
            await eventually(what, seconds, condition)
        except Failure as failure:
            self.fault(str(failure))
            return False
        self.note(f"{what}: {time.monotonic() - began:.1f} s")
        return True

    # What runs.

    async def broker(self, **more: Any) -> Broker:
        """One broker."""
        broker = Broker(self.options.nats_server, self.folder, "n0", **more)
        self.stack.callback(broker.kill)
        await broker.start()
        self.operators_url = broker.url
        return broker

    async def cluster(self) -> Cluster:
        """Three brokers on this host."""
        cluster = Cluster.on_this_host(self.options.nats_server, self.folder)
        self.stack.callback(cluster.kill)
        await cluster.start()
        self.operators_url = cluster.urls()
        return cluster

    async def relay(self, broker: Broker) -> Relay:
        """A relay before a broker."""
        relay = await Relay(broker.host, broker.port).start()
        self.stack.push_async_callback(relay.stop)
        return relay

    def add(self, name: str, url: str, flags: Optional[list[str]] = None, **more: Any) -> Worker:
        """A worker that is not started yet."""
        worker = Worker(self.options.program, self.folder, name, url, [*FLAGS, *(flags or [])], **more)
        self.workers.append(worker)
        self.watch.workers.append(worker)
        return worker

    async def start(self, *workers: Worker) -> None:
        """Starts workers, and the watch over all; puts the tenants' policies."""
        for worker in workers:
            worker.launch()
        for worker in workers:
            await worker.ready()
        self.operator = await connect(self.operators_url, "operator")
        self.stack.push_async_callback(self._close_operator)
        for tenant in self.tenants:
            await done(self.operator, "policy.put", {"tenant_id": tenant, "policy": policy()})
        for worker in workers:
            self.counted_from[worker.name] = (await worker.place())[0]
        self.watch.begin()

    async def _close_operator(self) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.operator.close(), 3)

    async def load(self, **more: Any) -> Load:
        """Begins load, and waits until breakers have opened and closed."""
        self.load_ = load = Load(self.operators_url, self.tenants, **more)
        await load.begin()
        return load

    async def runs(self, seconds: float) -> None:
        """Lets all go on. The one wait that is no condition: it is how much load there is."""
        await asyncio.sleep(seconds)

    async def whole(self, cluster: Cluster) -> None:
        """Every replica of every stream is current again."""
        for name in await healed(cluster, self.operator.jetstream(timeout=2), REPLICATED):
            self.note(f"a replica on {name} stayed behind until its broker was restarted")

    async def all_ready(self, seconds: float = 60.0) -> None:
        """Every worker is ready again."""
        for worker in self.workers:
            async def ready(worker: Worker = worker) -> bool:
                if not worker.process or not worker.process.runs():
                    raise Failure(f"{worker.name} ended:\n{worker.process.tail() if worker.process else ''}")
                reasons = await worker.reasons()
                if reasons:
                    raise RuntimeError(f"{worker.name}: {reasons}")
                return True
            try:
                await eventually(f"{worker.name} is ready again", seconds, ready)
            except Failure as failure:
                self.fault(str(failure))

    async def finish(self) -> Verdict:
        """Waits until all is quiet, and judges."""
        load = self.load_
        assert load
        try:
            await load.quiet()
        except Failure as failure:
            self.fault(f"{failure}: {len(load.pending)} are not")
        await self.all_ready()
        await self.watch.end()
        found: dict[str, list[str]] = {"settled": ["nothing was read"]}
        figures: dict[str, int] = {}

        async def settled() -> bool:
            nonlocal found, figures
            try:
                self.recording = await record(
                    self.operator, load, self.workers, self.watch, self.counted_from, self.lost
                )
                found, figures = judge(self.recording, self.stale_ms, self.named_ms, self.without)
            except Exception as error:  # A worker that goes on, a broker that does not answer: looked at again.
                found = {"settled": [f"{type(error).__name__}: {error}"]}
            return not found
        # What is wrong may be late (usage is sent while we look), so it is looked at until the time is over.
        with contextlib.suppress(Failure):
            await eventually("all is as the model says", SETTLE if not self.options.short else 30.0, settled, every=1.0)
        figures["unanswered"] = load.unanswered
        return Verdict(self.faults + lines(found), figures, self.notes)

    def keep(self) -> pathlib.Path:
        """Keeps what a failed scenario left: the recording, logs of workers and brokers."""
        to = self.options.keep / self.name
        to.mkdir(parents=True, exist_ok=True)
        if self.recording:
            (to / "recording.json").write_text(self.recording.to_json())
        for log in [*self.folder.glob("*.log"), *self.folder.glob("*/log")]:
            name = log.name if log.suffix else f"{log.parent.name}.log"
            (to / name).write_bytes(log.read_bytes())
        return to
