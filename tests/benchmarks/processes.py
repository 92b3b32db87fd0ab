"""CPU time and memory of processes, from /proc."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_UTIME, _RSS_LINE = 11, "VmRSS:"


def family(pid: int) -> list[int]:
    """Return `pid` and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text(encoding="ascii").split():
            found += family(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and its living descendants, in seconds."""
    ticks = 0
    for each in family(pid):
        stat = Path(f"/proc/{each}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(stat[_UTIME]) + int(stat[_UTIME + 1])
    return ticks / _TICKS


def resident_bytes(pid: int) -> int:
    """Return the resident memory of one process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(_RSS_LINE):
            return int(line.split()[1]) * 1024
    return 0
