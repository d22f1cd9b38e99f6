"""Memory that runs which visitors start may take together: training and ambulances share it.

Half of what is free when it is first asked for: pages, kept traces and the visitors themselves need the rest.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path

SHARE = 0.5
UNKNOWN = 2 * 2**30  # bytes taken as free where the system does not tell


class Budget:
    """So many bytes. Whoever took some gives them back."""

    def __init__(self, most: int) -> None:
        self.most, self._taken, self._lock = most, 0, threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there were so many left; if so they are taken."""
        with self._lock:
            if self._taken + size > self.most:
                return False
            self._taken += size
            return True

    def give(self, size: int) -> None:
        """Back again."""
        with self._lock:
            self._taken -= size

    @property
    def left(self) -> int:
        """Bytes."""
        return self.most - self._taken


def free() -> int:
    """Bytes that this process could still take: of the machine, or of the container that it lives in."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))
    except (OSError, StopIteration):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    groups = Path("/sys/fs/cgroup")
    try:  # a service's own limit lies in a group of its own
        own = Path("/proc/self/cgroup").read_text().splitlines()[-1].rpartition(":")[2].strip("/")
    except (OSError, IndexError):
        own = ""
    for limit, used in (
        (groups / own / "memory.max", groups / own / "memory.current"),
        (groups / "memory.max", groups / "memory.current"),
        (groups / "memory" / "memory.limit_in_bytes", groups / "memory" / "memory.usage_in_bytes"),
    ):
        try:
            most, now = limit.read_text().strip(), used.read_text().strip()
            found.append(max(int(most) - int(now), 0))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min(found, default=UNKNOWN)


@cache
def shared() -> Budget:
    """The one of this process."""
    return Budget(int(SHARE * free()))
