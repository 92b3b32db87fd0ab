"""CPU time and memory of processes, from /proc."""

from pathlib import Path

_RSS_LINE = "VmRSS:"


def family(pid: int) -> list[int]:
    """Return `pid` and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text(encoding="ascii").split():
            found += family(int(child))
    return found


def resident_bytes(pid: int) -> int:
    """Return the resident memory of one process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(_RSS_LINE):
            return int(line.split()[1]) * 1024
    return 0


def family_bytes(pid: int) -> int:
    """Return the resident memory of a process and its living descendants."""
    return sum(resident_bytes(each) for each in family(pid))


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and its living descendants, in seconds.

    By the scheduler's own clock: the ticks of ``stat`` are too coarse for short rounds.
    """
    nanoseconds = 0
    for each in family(pid):
        for task in Path(f"/proc/{each}/task").iterdir():
            nanoseconds += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return nanoseconds / 1e9
