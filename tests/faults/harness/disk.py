"""A small disk: a tmpfs of its own, which can be filled and emptied. Needs root."""

import os
import pathlib
import shutil
import subprocess
import tempfile
from typing import Optional

# What is mounted is named after the process that did it.
SOURCE = "faults-"


def lacking() -> Optional[str]:
    """Why there are no small disks here; `None` if there are."""
    return None if os.geteuid() == 0 else "mounting a small tmpfs needs root"


def folder() -> tempfile.TemporaryDirectory:
    """A temporary folder, named after this process."""
    return tempfile.TemporaryDirectory(prefix=f"{SOURCE}{os.getpid()}-")


def remove_strays() -> None:
    """Unmounts disks and removes folders of runs that were killed before they could."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        source, at = line.split()[:2]
        pid = source.removeprefix(SOURCE)
        if source != pid and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            subprocess.run(["umount", "--lazy", at], check=False, capture_output=True)
    for left in pathlib.Path(tempfile.gettempdir()).glob(f"{SOURCE}*-*"):
        pid = left.name.split("-")[1]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}") and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)


class Disk:
    """A mounted tmpfs; a context manager, so that it does not stay mounted."""

    def __init__(self, at: pathlib.Path, mebibytes: int) -> None:
        self.at, self.mebibytes = at, mebibytes
        self.filler = at / "filler"

    def __enter__(self) -> "Disk":
        self.at.mkdir(exist_ok=True)
        options, source = f"size={self.mebibytes}m", f"{SOURCE}{os.getpid()}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, source, str(self.at)], check=True, capture_output=True)
        return self

    def __exit__(self, *_: object) -> None:
        # Lazily: a broker that is being killed may still hold a file.
        subprocess.run(["umount", "--lazy", str(self.at)], check=False, capture_output=True)

    def fill(self) -> int:
        """Writes until nothing more fits. How many bytes that took."""
        written = 0
        with self.filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        written += file.write(b"\0" * size)
                except OSError:
                    continue
        return written

    def empty(self) -> None:
        """Makes room again."""
        self.filler.unlink(missing_ok=True)
