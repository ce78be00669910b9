"""Processes, their output in files, and waiting for conditions."""

import asyncio
import ctypes
import os
import pathlib
import random
import signal
import socket
import subprocess
import time
from typing import Any, Awaitable, Callable, Optional

PR_SET_PDEATHSIG = 1
# Below the ports that the kernel gives to outgoing connections: while a broker is down, no connection takes its port.
FIRST_PORT, PORTS = 15_000, 15_000
_next_port = random.randrange(PORTS)
_libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """The scenario could not go on, or what it demands did not come about."""


def free_port() -> int:
    """A port that nobody listens on."""
    global _next_port
    while True:
        _next_port = (_next_port + 1) % PORTS
        port = FIRST_PORT + _next_port
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def now_ms() -> int:
    """The wall clock, which brokers on this machine stamp entries by."""
    return time.time_ns() // 1_000_000


async def eventually(what: str, seconds: float, condition: Callable[[], Awaitable[Any]], every: float = 0.1) -> Any:
    """The first true value of a condition; a failure that names it if none comes in time.

    What the condition raises on its way (a broker that is not there yet) counts as not yet, and is quoted at the end.
    """
    end, last = time.monotonic() + seconds, ""
    while True:
        try:
            found = await asyncio.wait_for(condition(), max(0.5, end - time.monotonic()))
            if found:
                return found
            last = f"last: {found!r}"
        except Failure:
            raise
        except Exception as error:  # Whatever it is, the next try may be without it.
            last = f"last: {type(error).__name__} {error}"
        if time.monotonic() > end:
            raise Failure(f"not within {seconds:.0f} s: {what} ({last})")
        await asyncio.sleep(every)


def _die_with_parent() -> None:
    """In the child: the kernel kills it when this program dies, by whatever signal."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child process, with standard output and error in a file."""

    def __init__(self, name: str, command: list[str], log: pathlib.Path, env: Optional[dict[str, str]] = None) -> None:
        self.name, self.log = name, log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env,
                preexec_fn=_die_with_parent, start_new_session=True,
            )

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        """Sends a signal, if it runs."""
        if self.runs():
            self.popen.send_signal(number)

    async def ends(self, seconds: float) -> int:
        """Waits for its end: the exit code, below zero for a signal."""
        await eventually(f"{self.name} ends", seconds, self._ended)
        return self.popen.returncode

    async def _ended(self) -> bool:
        return not self.runs()

    def kill(self) -> None:
        """SIGKILL, and waits for its end."""
        self.signal(signal.SIGKILL)
        self.popen.wait()

    def tail(self, lines: int = 15) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Owner:
    """Whoever runs one process at a time, started again under the same name."""

    process: Optional[Process] = None

    def kill(self) -> None:
        """SIGKILL."""
        if self.process:
            self.process.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay and nothing moves."""
        assert self.process
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process
        self.process.signal(signal.SIGCONT)


def tool(variable: str, name: str, root: pathlib.Path) -> str:
    """A program by its variable, from .tools/bin, or on PATH."""
    named = os.environ.get(variable)
    fetched = root / ".tools" / "bin" / name
    return named or (str(fetched) if fetched.exists() else name)
