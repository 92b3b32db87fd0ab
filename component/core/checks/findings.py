"""Results of comparing a user's memberships, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["agree", "differ", "unknown", "busy"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The views of one user and channel, and the repairs made or proposed.

    `memory` and `participant` (the channel's view) are participant ids, `roster` is a
    subscription; each is None where there is nothing. `repairs` are done if the
    comparison was to repair, else only proposed; `why` explains the verdicts `unknown`
    and `busy`, at which nothing is changed.
    """

    channel: str
    verdict: Verdict
    memory: str | None
    roster: str | None
    participant: str | None
    repairs: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class UserFindings:
    """The outcome for one user.

    `silent` names domains of the roster that did not answer, so that it is not known
    whether they have channels. With `why`, nothing could be compared.
    """

    user: str
    repaired: bool
    findings: tuple[Finding, ...] = ()
    silent: tuple[str, ...] = ()
    why: str = ""
