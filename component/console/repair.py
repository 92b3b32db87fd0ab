"""Sends users to `/api/reconcile`, several at a time, and shows progress."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from component.console.remote import NotRunning, Refused, Remote

AT_ONCE = 8
"""Users requested at the same time; the component has a limit of its own."""

EVERY = 50
"""Users between two lines of progress if there is no terminal."""

Outcome = dict[str, Any]


class Tally:
    """Sums over all users."""

    def __init__(self) -> None:
        self.users = 0
        self.agree = 0
        self.differ = 0
        self.unknown = 0
        self.failed = 0

    def add(self, outcome: Outcome) -> None:
        """Add one user's outcome."""
        self.users += 1
        self.failed += bool(outcome["why"])
        self.unknown += len(outcome["silent"])
        for finding in outcome["findings"]:
            if finding["verdict"] == "agree":
                self.agree += 1
            elif finding["verdict"] == "differ":
                self.differ += 1
            else:
                self.unknown += 1


def walk(remote: Remote, users: list[str], *, repair: bool) -> Iterator[Outcome]:
    """Reconcile users and yield each outcome as it comes. Raises NotRunning."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting: set[Future[Outcome]] = set()
        todo = iter(users)
        try:
            while True:
                for user in todo:
                    waiting.add(pool.submit(_one, remote, user, repair))
                    if len(waiting) >= AT_ONCE:
                        break
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _one(remote: Remote, user: str, repair: bool) -> Outcome:
    try:
        return remote.reconcile(user, repair=repair)
    except Refused as error:
        return {"user": user, "repaired": repair, "findings": [], "silent": [], "why": str(error)}


def run(
    remote: Remote, users: list[str], *, repair: bool, as_json: bool, out: Console, err: Console
) -> int:
    """Reconcile users and write the findings; return the exit code.

    0: everything agrees or was repaired; 1: something could not be determined, or, without repair,
    differs; 3: there is no component. JSON is one object a line.
    """
    tally = Tally()
    # If both are on a terminal, lines must go above the progress bar.
    lines = err if out.is_terminal and err.is_terminal else out
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    try:
        with progress:
            task = progress.add_task("users", total=len(users))
            for outcome in walk(remote, users, repair=repair):
                tally.add(outcome)
                progress.advance(task)
                if as_json:
                    lines.print(Text(json.dumps(outcome, ensure_ascii=False)), soft_wrap=True)
                else:
                    _show(lines, outcome)
                if not err.is_terminal and tally.users % EVERY == 0:
                    err.print(Text(f"{tally.users} of {len(users)} users"))
    except NotRunning as error:
        err.print(Text(f"mixpam: {error}"), soft_wrap=True)
        return 3
    if not as_json:
        _summary(out, tally, repair=repair)
    open_ends = tally.unknown + tally.failed + (0 if repair else tally.differ)
    return 1 if open_ends else 0


def _show(out: Console, outcome: Outcome) -> None:
    """Write the findings worth a line: differences, and what could not be determined."""
    user = outcome["user"]
    if outcome["why"]:
        out.print(_line(user, "", outcome["why"], "red"), soft_wrap=True)
    for finding in outcome["findings"]:
        if finding["verdict"] == "differ":
            done = "done" if outcome["repaired"] else "to do"
            text = f"{done}: {'; '.join(finding['repairs'])}"
            out.print(_line(user, finding["channel"], text, "yellow"), soft_wrap=True)
        elif finding["verdict"] != "agree":
            text = f"left alone: {finding['why']}"
            out.print(_line(user, finding["channel"], text, "red"), soft_wrap=True)
    for domain in outcome["silent"]:
        text = "did not answer: it is not known whether it has channels"
        out.print(_line(user, domain, text, "red"), soft_wrap=True)


def _line(user: str, where: str, text: str, style: str) -> Text:
    middle = f"  {where}" if where else ""
    return Text.assemble((user, "bold"), middle, (f"  {text}", style))


def _summary(out: Console, tally: Tally, *, repair: bool) -> None:
    done = "repaired" if repair else "to repair"
    out.print(
        Text(
            f"{tally.users} users: {tally.agree} memberships agree, {tally.differ} {done},"
            f" {tally.unknown} could not be told"
            + (f", {tally.failed} users could not be looked at" if tally.failed else "")
        )
    )
