"""Workers: `beamline-router serve`, what they serve over HTTP, and a watch that looks at them all the time."""

import asyncio
import json
import os
import pathlib
import re
import signal
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Optional

from .process import Failure, Owner, Process, eventually, free_port, now_ms

SAMPLE = re.compile(r"^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Making streams and catching up, on a busy machine.
READY = 60.0


async def get(host: str, port: int, path: str, timeout: float = 5.0, body: Optional[dict] = None) -> tuple[int, str]:
    """GET, or POST with a body as the console does: the status and the body of the answer."""
    sent = b"" if body is None else json.dumps(body).encode()
    head = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    if body is not None:
        head += ["Content-Type: application/json", "X-Beamline-Console: 1", f"Content-Length: {len(sent)}"]

    async def ask() -> tuple[int, str]:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write("\r\n".join([*head, "", ""]).encode() + sent)
            answered = (await reader.readuntil(b"\r\n\r\n")).decode()
            got = await reader.read()
            if "transfer-encoding: chunked" in answered.lower():
                got = _unchunked(got)
            return int(answered.split()[1]), got.decode()
        finally:
            writer.close()
    return await asyncio.wait_for(ask(), timeout)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + rest[:length], rest[length + 2:]
        if length == 0:
            break
    return whole


Labels = dict[str, str]


def parse_metrics(page: str) -> dict[str, list[tuple[Labels, float]]]:
    """The samples of a page, by name."""
    found: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
    for line in page.splitlines():
        match = SAMPLE.match(line)
        if match:
            found[match[1]].append((dict(LABEL.findall(match[2] or "")), float(match[3])))
    return found


class Worker(Owner):
    """A worker. Started again it keeps its name and its HTTP port."""

    def __init__(self, program: str, folder: pathlib.Path, name: str, url: str, flags: Optional[list[str]] = None,
                 host: str = "127.0.0.1", prefix: Optional[list[str]] = None) -> None:
        self.name, self.host, self.http = name, host, free_port()
        self.log = folder / f"{name}.log"
        self.command = [
            *(prefix or []), program, "serve", "--worker-name", name, "--http-addr", f"{host}:{self.http}",
            *(flags or []),
        ]
        self.env = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
        self.env["NATS_URL"] = url
        # Whether a restart, a rebuild or a kill made its counters begin anew.
        self.steady = True

    def launch(self) -> "Worker":
        """Starts it and does not wait."""
        if self.process is not None:
            self.steady = False
        self.process = Process(self.name, self.command, self.log, self.env)
        return self

    async def start(self) -> "Worker":
        """Starts it and waits until it is ready."""
        self.launch()
        await self.ready()
        return self

    async def ready(self, seconds: float = READY) -> None:
        """Waits until it reports that it is ready."""
        async def is_ready() -> bool:
            if not self.process or not self.process.runs():
                raise Failure(f"{self.name} ended:\n{self.process.tail() if self.process else ''}")
            reasons = await self.reasons()
            if reasons:
                raise RuntimeError(f"not ready: {reasons}")
            return True
        await eventually(f"{self.name} is ready", seconds, is_ready)

    async def reasons(self) -> list[str]:
        """Why it is not ready; empty if it is."""
        return json.loads((await get(self.host, self.http, "/readyz"))[1])

    async def metrics(self) -> dict[str, list[tuple[Labels, float]]]:
        """A scrape."""
        return parse_metrics((await get(self.host, self.http, "/metrics"))[1])

    async def place(self) -> tuple[int, int]:
        """The entry that it applied last, and the digest there: of one page, read when both stood still."""
        page = await self.metrics()
        return int(page["router_log_position"][0][1]), int(page["router_log_state_digest"][0][1])

    async def breakers(self) -> list[dict[str, Any]]:
        """All its breakers, as its API lists them: without their settings."""
        found, cursor = [], ""
        while True:
            page = json.loads((await get(self.host, self.http, f"/api/v1/breakers?limit=1000{cursor}"))[1])
            found += page["breakers"]
            if not page.get("cursor"):
                return found
            cursor = f"&cursor={page['cursor']}"

    async def settings(self, tenant: str, provider: str) -> dict[str, Any]:
        """The settings of one breaker."""
        page = json.loads((await get(self.host, self.http, f"/api/v1/breakers/{tenant}/{provider}"))[1])
        return page["breaker"]["settings"]

    async def force(self, tenant: str, provider: str, state: str, reason: str) -> None:
        """Forces a breaker by this worker, as its console does; it has to run with `--console-actions`."""
        path = f"/api/v1/breakers/{tenant}/{provider}/force"
        status, answer = await get(self.host, self.http, path, 10.0, {"state": state, "reason": reason})
        if status != 200:
            raise Failure(f"{self.name} does not force {tenant}/{provider}: {status} {answer}")

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Its log lines with this event."""
        lines = []
        for line in self.log.read_text(errors="replace").splitlines():
            if f'"{event}"' in line:
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    continue
        return [line for line in lines if line.get("event") == event]

    async def stop(self) -> int:
        """SIGTERM: it drains. The exit code."""
        assert self.process
        self.process.signal(signal.SIGTERM)
        return await self.process.ends(30)


@dataclass
class Look:
    """What an overview of a worker showed."""

    at: int
    position: int
    digest: int
    ready: bool


@dataclass
class Watch:
    """Looks at workers all the time, and keeps what their place in the log and their digest were."""

    workers: list[Worker]
    every: float = 0.25
    looks: dict[str, list[Look]] = field(default_factory=lambda: defaultdict(list))
    task: Optional[asyncio.Task] = None

    def begin(self) -> "Watch":
        """Starts to look."""
        self.task = asyncio.ensure_future(self._run())
        return self

    async def end(self) -> None:
        """Stops to look."""
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.gather(*(self._look(worker) for worker in self.workers), return_exceptions=True)
            await asyncio.sleep(self.every)

    async def _look(self, worker: Worker) -> None:
        if not worker.process or not worker.process.runs():
            return
        page = json.loads((await get(worker.host, worker.http, "/api/v1/overview", 1.0))[1])
        # The digest comes with the position that it is of.
        look = Look(now_ms(), page["digest"]["position"], page["digest"]["value"], page["ready"])
        self.looks[worker.name].append(look)
