#!/usr/bin/env python3
"""Write the tables of the documentation from the code that they describe.

Run `python deploy/docs/tables.py` after a change of commands, log events, metrics or the
Redis user; a test compares. Needs what the component needs.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import typer.main
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

HERE = Path(__file__).resolve().parent
DEPLOY = HERE.parent
sys.path.insert(0, str(DEPLOY.parent))

from component.cli import app  # noqa: E402
from component.core.lane_counts import LaneCounts  # noqa: E402
from component.core.limits import Limits  # noqa: E402
from component.core.machine import Core  # noqa: E402
from component.http.metrics import Metrics  # noqa: E402
from component.http.sources import Sources  # noqa: E402
from component.http.watch import Watch  # noqa: E402
from component.process import events  # noqa: E402 - needs the path
from component.process.counters import Timings  # noqa: E402
from schemas import jid  # noqa: E402
from schemas.settings import Settings  # noqa: E402

COUNTED = ("dropped", "refused", "outgoing-refused", "capability", "presence-memory", "other")
"""What the core counts; a metric with labels is only seen once something was counted."""


def commands() -> str:
    """Make the table of commands, with the options of each."""
    rows = ["| command | what it does | options |", "|---|---|---|"]
    rows += [_row(name, command) for name, command in leaves()]
    return "\n".join(rows) + "\n"


def leaves() -> list[tuple[str, Any]]:
    """Give the commands that do something, with their full names."""
    return _leaves(typer.main.get_command(app), "mixpam")


# Any: some versions of Typer bring a click of their own.
def _leaves(command: Any, name: str) -> list[tuple[str, Any]]:  # noqa: ANN401
    below = getattr(command, "commands", None)
    if below is None:
        return [(name, command)]
    return [leaf for part, each in below.items() for leaf in _leaves(each, f"{name} {part}")]


def _row(name: str, command: Any) -> str:  # noqa: ANN401 - likewise
    what = (command.help or "").strip().split("\n\n")[0].replace("\n", " ")
    options = [parameter.opts[0] for parameter in command.params if parameter.opts[0][0] == "-"]
    shown = ", ".join(f"`{option}`" for option in options) or "none"
    return f"| `{name}` | {what} | {shown} |"


def acl() -> str:
    """Quote the users of Redis from the file that the containers use."""
    lines = (DEPLOY / "redis/users.acl").read_text(encoding="utf-8").splitlines()
    quoted = "\n".join(f"      {line}" for line in lines if not line.startswith("#"))
    return f"\n{quoted}\n\n"


class _NoStore:
    """A store that has done nothing yet."""

    waiting = 0
    needs_rewrite = False

    def __init__(self) -> None:
        self.latency = Timings()


def exported() -> list[Metric]:
    """Read what `/metrics` writes when each thing that is counted has happened once."""
    settings = Settings.model_validate(
        {"component_jid": "mixpam.example.org", "secret": "unused", "domains": "example.org"}
    )
    core = Core(jid.parse(settings.component_jid), settings.domains, Limits(), lambda: "id")
    watch = Watch(settings.domains)
    watch.saw("link-up", "info", {})
    watch.saw("link-down", "warning", {"reason": "closed"})
    watch.saw("redis-away", "error", {"kind": "full"})
    counts = Counter({(what, "reason"): 1 for what in COUNTED})
    text = Metrics(Sources(settings, core, watch, LaneCounts(), counts, _NoStore())).expose()
    return list(text_string_to_metric_families(text.decode()))


def metrics() -> str:
    """Make the table of metrics. Raises ValueError for one without a sample: see COUNTED."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in exported():
        if not family.samples:
            raise ValueError(f"{family.name} has no sample: its labels are not known")
        counts = "_total" if family.type == "counter" else ""
        labels = dict.fromkeys(name for sample in family.samples for name in sample.labels)
        # Prometheus reads `le` itself; nobody asks by it.
        shown = ", ".join(f"`{name}`" for name in labels if name != "le") or "none"
        meaning = family.documentation
        rows.append(f"| `{family.name}{counts}` | {family.type} | {shown} | {meaning} |")
    return "\n".join(rows) + "\n"


BLOCKS = {
    ("docs/commands.md", "commands"): commands,
    ("docs/log.md", "events"): events.table,
    ("docs/metrics.md", "metrics"): metrics,
    ("SECURITY.md", "acl"): acl,
}
"""(page, name of the block) -> what must stand there."""


def with_block(text: str, name: str, content: str) -> str:
    """Put the content between the marks of a block. Raises ValueError without the marks."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, _, rest = text.partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f"no block {name}")
    return f"{before}{begin}{content}{end}{after}"


def main() -> None:
    """Bring all blocks up to date."""
    for (page, name), make in BLOCKS.items():
        path = DEPLOY / page
        path.write_text(with_block(path.read_text(encoding="utf-8"), name, make()), "utf-8")


if __name__ == "__main__":
    main()
