"""A TCP relay in this process: it delays, stops one direction in silence, or cuts.

`tc netem` is not everywhere. A stopped direction reads nothing more, so the sender's buffers fill and nobody is told:
as where a firewall forgets a connection.
"""

import asyncio
from typing import Optional

CHUNK = 64 * 1024


class Direction:
    """What happens to bytes that go one way."""

    def __init__(self) -> None:
        self.delay = 0.0
        self._open = asyncio.Event()
        self._open.set()

    def stop(self) -> None:
        """Lets nothing through, in silence."""
        self._open.clear()

    def go(self) -> None:
        """Lets through what waited, and what comes."""
        self._open.set()

    async def passes(self) -> None:
        """Waits until bytes may pass."""
        await self._open.wait()


class Relay:
    """Listens on a port and passes all on to another."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.target = (target_host, target_port)
        self.to_target, self.from_target = Direction(), Direction()
        # Connections made while this is not set are accepted and then hear nothing.
        self.server: Optional[asyncio.base_events.Server] = None
        self.port = 0
        self.tasks: set[asyncio.Task] = set()
        self.writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> "Relay":
        """Listens on a port that the system chooses."""
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self) -> str:
        """For a client of NATS."""
        return f"nats://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Closes every connection."""
        for writer in list(self.writers):
            writer.close()

    def freeze_present(self) -> None:
        """Stops the connections that stand, both ways and for good; new ones pass."""
        self.to_target.stop()
        self.from_target.stop()
        self.to_target, self.from_target = Direction(), Direction()

    async def stop(self) -> None:
        """Ends it."""
        if self.server:
            self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        self.writers.add(writer)
        directions = self.to_target, self.from_target
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
            self.writers.add(far_writer)
            pumps = [
                asyncio.ensure_future(self._pump(reader, far_writer, directions[0])),
                asyncio.ensure_future(self._pump(far_reader, writer, directions[1])),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                far_writer.close()
                self.writers.discard(far_writer)
        except (OSError, asyncio.CancelledError):
            pass  # The target is down, or the relay ends: this client sees its connection closed.
        finally:
            writer.close()
            self.writers.discard(writer)
            self.tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        """Passes bytes on, each after the delay, in order."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1024)
        loop = asyncio.get_running_loop()

        async def write() -> None:
            while True:
                due, data = await queue.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                await direction.passes()
                writer.write(data)
                await writer.drain()

        task = asyncio.ensure_future(write())
        try:
            while data := await reader.read(CHUNK):
                await direction.passes()
                await queue.put((loop.time() + direction.delay, data))
        except OSError:
            pass  # The other side is gone.
        finally:
            task.cancel()
