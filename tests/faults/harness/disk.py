"""A small disk: a tmpfs of its own, which can be filled and emptied. Needs root."""

import os
import pathlib
import subprocess
from typing import Optional


def lacking() -> Optional[str]:
    """Why there are no small disks here; `None` if there are."""
    return None if os.geteuid() == 0 else "mounting a small tmpfs needs root"


class Disk:
    """A mounted tmpfs; a context manager, so that it does not stay mounted."""

    def __init__(self, at: pathlib.Path, mebibytes: int) -> None:
        self.at, self.mebibytes = at, mebibytes
        self.filler = at / "filler"

    def __enter__(self) -> "Disk":
        self.at.mkdir(exist_ok=True)
        options = f"size={self.mebibytes}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "faults", str(self.at)], check=True, capture_output=True)
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
