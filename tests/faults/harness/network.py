"""Network namespaces: hosts of their own with links that can be taken down. Needs root and iproute2.

Each host has a link to a bridge, over which hosts reach each other, and one to this program, over which it reaches
all of them whatever happens to the bridge. Nothing is forwarded from one to the other.
"""

import os
import re
import shutil
import subprocess
from typing import Optional

PREFIX = "faults"


def lacking() -> Optional[str]:
    """Why there are no namespaces here; `None` if there are."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip"):
        return "network namespaces need the program ip (Debian's iproute2)"
    probe = f"{PREFIX}-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=False)
    return None


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Host:
    """A namespace. `inner` is its address on the bridge, `outer` the one that this program reaches."""

    def __init__(self, network: "Network", name: str, at: int) -> None:
        self.name, self.space = name, f"{PREFIX}-{os.getpid()}-{name}"
        tag = f"f{os.getpid() % 100_000}"
        self.inner, self.outer = f"10.{network.net}.0.{at + 1}", f"10.{network.net}.{at + 1}.2"
        self.links = [f"{tag}b{at}", f"{tag}o{at}"]
        _ip("netns", "add", self.space)
        for link, inside in zip(self.links, ("inner", "outer")):
            _ip("link", "add", link, "type", "veth", "peer", "name", inside, "netns", self.space)
            _ip("link", "set", link, "up")
        _ip("link", "set", self.links[0], "master", network.bridge)
        _ip("address", "add", f"10.{network.net}.{at + 1}.1/24", "dev", self.links[1])
        for device, address in (("inner", self.inner), ("outer", self.outer)):
            self.run("address", "add", f"{address}/24", "dev", device)
            self.run("link", "set", device, "up")
        self.run("link", "set", "lo", "up")

    def run(self, *arguments: str) -> None:
        """`ip`, in the namespace."""
        _ip("-n", self.space, *arguments)

    def within(self) -> list[str]:
        """What a command begins with to run here."""
        return ["ip", "netns", "exec", self.space]

    def isolate(self) -> None:
        """Takes its link to the bridge down: packets go nowhere, and nobody is told."""
        _ip("link", "set", self.links[0], "down")

    def heal(self) -> None:
        """Takes the link up."""
        _ip("link", "set", self.links[0], "up")

    def mute_towards(self, other: "Host") -> None:
        """Drops what this host sends to another; what that sends still arrives here."""
        self.run("route", "replace", "blackhole", f"{other.inner}/32")

    def speak_to(self, other: "Host") -> None:
        """Takes `mute_towards` back."""
        self.run("route", "del", "blackhole", f"{other.inner}/32")


class Network:
    """Hosts on one bridge; a context manager, so that nothing of it stays."""

    def __init__(self, names: list[str]) -> None:
        # Two runs side by side have other addresses.
        self.net = 160 + os.getpid() % 90
        self.bridge = f"f{os.getpid() % 100_000}br"
        self.names = names
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> "Network":
        try:
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("link", "set", self.bridge, "up")
            for at, name in enumerate(self.names):
                self.hosts[name] = Host(self, name, at)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for at, name in enumerate(self.names):
            subprocess.run(["ip", "netns", "del", f"{PREFIX}-{os.getpid()}-{name}"], capture_output=True, check=False)
            for kind in "bo":
                link = f"f{os.getpid() % 100_000}{kind}{at}"
                subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)


def remove_strays() -> None:
    """Removes namespaces and bridges of runs that were killed before they could."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return
    alive = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    for space, pid in re.findall(rf"^({PREFIX}-(\d+)-\S+)", spaces, re.MULTILINE):
        if int(pid) not in alive:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
    links = subprocess.run(["ip", "-o", "link", "show", "type", "bridge"], capture_output=True, text=True, check=False)
    for bridge, pid in re.findall(r"^\d+: (f(\d+)br)", links.stdout, re.MULTILINE):
        if int(pid) not in {one % 100_000 for one in alive}:
            subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)
