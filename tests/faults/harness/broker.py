"""nats-server: one, or three that form a cluster."""

import asyncio
import pathlib
import shutil
import signal
from typing import Any, Optional

import nats

from .process import Failure, Owner, Process, eventually, free_port

# An election, on a busy machine.
ELECTION = 60.0
START = 30.0


class Broker(Owner):
    """A nats-server with JetStream. Stopped and started again it keeps its ports and its store."""

    def __init__(self, program: str, folder: pathlib.Path, name: str, more: str = "", host: str = "127.0.0.1",
                 store: Optional[pathlib.Path] = None, prefix: Optional[list[str]] = None) -> None:
        self.name, self.host, self.port = name, host, free_port()
        self.program, self.prefix = program, prefix or []
        self.folder = folder / name
        self.folder.mkdir()
        self.store = store or self.folder / "store"
        self.config = self.folder / "nats.conf"
        # The router's streams reserve more than a small disk's share.
        self.config.write_text(
            f'listen: "{host}:{self.port}"\nserver_name: {name}\n'
            'lame_duck_grace_period: "1s"\nlame_duck_duration: "30s"\n'
            f'jetstream {{ store_dir: "{self.store}", max_file_store: 1T, max_memory_store: 1G }}\n{more}\n'
        )

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{self.host}:{self.port}"

    async def start(self) -> "Broker":
        """Starts it, and waits until it greets."""
        command = [*self.prefix, self.program, "--config", str(self.config)]
        self.process = Process(self.name, command, self.folder / "log")
        await eventually(f"{self.name} greets", START, self._greets)
        return self

    async def _greets(self) -> bool:
        if not self.process or not self.process.runs():
            raise Failure(f"{self.name} ended:\n{self.process.tail() if self.process else ''}")
        reader, writer = await asyncio.wait_for(asyncio.open_connection(self.host, self.port), 2)
        greeting = await asyncio.wait_for(reader.read(5), 2)
        writer.close()
        return greeting == b"INFO "

    async def stop(self) -> None:
        """SIGTERM, and waits for its end."""
        if self.process:
            self.process.signal(signal.SIGTERM)
            await self.process.ends(START)

    async def lame_duck(self) -> None:
        """SIGUSR2: it asks its clients to leave, and ends."""
        assert self.process
        self.process.signal(signal.SIGUSR2)
        await self.process.ends(60)

    def streams(self) -> pathlib.Path:
        """The folder that has one folder for each stream. Buckets are streams with a `KV_` before their names."""
        return self.store / "jetstream" / "$G" / "streams"

    def save(self, to: pathlib.Path) -> None:
        """Copies the store, of a broker that is down."""
        shutil.copytree(self.store, to)

    def put_back(self, saved: pathlib.Path, names: Optional[list[str]] = None) -> None:
        """Puts a saved store back, of a broker that is down: all of it, or these streams alone."""
        if names is None:
            shutil.rmtree(self.store)
            shutil.copytree(saved, self.store)
            return
        for name in names:
            shutil.rmtree(self.streams() / name)
            shutil.copytree(saved / "jetstream" / "$G" / "streams" / name, self.streams() / name)


class Cluster:
    """Three brokers that know each other."""

    def __init__(self, brokers: list[Broker]) -> None:
        self.brokers = brokers

    @staticmethod
    def on_this_host(program: str, folder: pathlib.Path) -> "Cluster":
        """On ports of the loopback interface."""
        routes = [free_port() for _ in range(3)]
        known = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in routes)
        more = [f'cluster {{ name: faults, listen: "127.0.0.1:{port}", routes: [{known}] }}' for port in routes]
        return Cluster([Broker(program, folder, f"n{at}", lines) for at, lines in enumerate(more)])

    async def start(self) -> "Cluster":
        """Starts all, and waits until JetStream has a leader."""
        await asyncio.gather(*(broker.start() for broker in self.brokers))
        await self.has_leader()
        return self

    async def has_leader(self) -> None:
        """Waits until JetStream answers."""
        connection = await nats.connect([broker.url for broker in self.brokers])
        try:
            async def answers() -> bool:
                return (await connection.jetstream(timeout=2).account_info()) is not None
            await eventually("JetStream has a leader", ELECTION, answers)
        finally:
            await connection.close()

    def urls(self) -> str:
        """For workers."""
        return ",".join(broker.url for broker in self.brokers)

    def named(self, name: str) -> Broker:
        """The broker of a name, as the cluster tells it."""
        return next(broker for broker in self.brokers if broker.name == name)

    def kill(self) -> None:
        """SIGKILL to all."""
        for broker in self.brokers:
            broker.kill()


async def leader(jetstream: Any, stream: str) -> str:
    """The name of the broker that leads a stream."""
    async def found() -> Optional[str]:
        info = await jetstream.stream_info(stream)
        return info.cluster and info.cluster.leader
    return await eventually(f"{stream} has a leader", ELECTION, found)


async def current(jetstream: Any, streams: list[str], seconds: float = ELECTION) -> None:
    """Waits until each replica of these streams holds what its leader holds."""
    async def is_current() -> bool:
        for stream in streams:
            cluster = (await jetstream.stream_info(stream)).cluster
            replicas = cluster.replicas or []
            behind = [replica.name for replica in replicas if not replica.current or replica.offline]
            if not cluster.leader or len(replicas) != 2 or behind:
                raise Behind(stream, behind)
        return True
    await eventually("all replicas are current", seconds, is_current)


class Behind(RuntimeError):
    """Replicas of a stream that are not current."""

    def __init__(self, stream: str, names: list[str]) -> None:
        super().__init__(f"{stream}: {', '.join(names) or 'no leader'} behind")


async def healed(cluster: Cluster, jetstream: Any, streams: list[str]) -> list[str]:
    """Waits until all replicas are current, and restarts brokers whose replicas do not become so: their names.

    nats-server 2.15.1 leaves the replica of a leader that was isolated behind at times: it logs "Expected first catchup
    entry to be a snapshot and peerstate, will retry" every two seconds, for more than a minute under load. That is no
    fault of a worker's, and the next isolation would take the quorum.
    """
    try:
        await current(jetstream, streams, 30)
        return []
    except Failure:
        pass
    behind = set()
    for stream in streams:
        for replica in (await jetstream.stream_info(stream)).cluster.replicas or []:
            if not replica.current or replica.offline:
                behind.add(replica.name)
    for name in sorted(behind):
        await cluster.named(name).stop()
        await cluster.named(name).start()
    await current(jetstream, streams)
    return sorted(behind)
