"""Ad-hoc commands for operators (`component.core.commands`).

The same functions serve these commands and the HTTP API.
"""

from __future__ import annotations

from dataclasses import asdict

from component.core.checks.findings import Finding, UserFindings
from component.core.commands import Command, Outcome, Tell, Values
from component.core.errors import Refusal
from component.core.machine import Core
from component.operator import tables
from component.operator.tables import Table
from component.operator.views import describe_channel, describe_user, totals
from schemas import jid
from schemas.adhoc import Field

_USER = Field("user", "User (bare JID)", "jid-single", required=True)
_CHANNEL = Field("channel", "Channel (bare JID)", "jid-single", required=True)
_DRY_RUN = Field("dry-run", "Only say what would be repaired", "boolean", values=("1",))


def admin_commands(core: Core) -> tuple[Command, ...]:
    """Make the ad-hoc commands of a core."""
    return (
        Command(
            "mixpam:show-user",
            "Show user",
            "Shows a user's channels, devices and changes under way.",
            (_USER,),
            lambda values, tell: tell(_show_user(core, values["user"])),
        ),
        Command(
            "mixpam:show-channel",
            "Show channel",
            "Shows the users of this server who are in a channel.",
            (_CHANNEL,),
            lambda values, tell: tell(_show_channel(core, values["channel"])),
        ),
        Command(
            "mixpam:leave",
            "Force leave",
            "Takes a user out of a channel: the channel is told, and membership and"
            " roster item go.",
            (_USER, _CHANNEL),
            lambda values, tell: _leave(core, values, tell),
        ),
        Command(
            "mixpam:reconcile",
            "Reconcile user",
            "Compares memory, roster and channels for a user, and repairs them.",
            (_USER, _DRY_RUN),
            lambda values, tell: _reconcile(core, values, tell),
        ),
        Command(
            "mixpam:statistics",
            "Statistics",
            "",
            (),
            lambda _, tell: tell(_statistics(core)),
        ),
    )


def _show_user(core: Core, user: str) -> Outcome | Refusal:
    view = describe_user(core, jid.parse(user))
    if not view.known:
        return Refusal("cancel", "item-not-found", f"nothing is known of {user}")
    fields = zip(("channels", "devices", "under-way"), tables.of_user(asdict(view)), strict=True)
    return Outcome(None, view.user, tuple(_field(name, table) for name, table in fields))


def _show_channel(core: Core, channel: str) -> Outcome | Refusal:
    view = describe_channel(core, jid.parse(channel))
    if not (view.members or view.under_way):
        return Refusal("cancel", "item-not-found", f"no user of this server is in {channel}")
    under_way = view.under_way or ("none",)
    return Outcome(
        None,
        view.channel,
        (
            _field("members", tables.of_channel(asdict(view))),
            Field("under-way", "Under way", "text-multi", values=under_way),
        ),
    )


def _field(name: str, table: Table) -> Field:
    return Field(name, table.title.capitalize(), "text-multi", values=table.lines() or ("none",))


def _leave(core: Core, values: Values, tell: Tell) -> None:
    user, channel = jid.parse(values["user"]), jid.parse(values["channel"])
    if core.mirror.membership(user, channel) is None:
        tell(Refusal("cancel", "item-not-found", f"{user} is not in {channel}"))
    elif not core.leave(user, channel):
        tell(Refusal("wait", "conflict", "a change of that membership is under way; try again"))
    else:
        tell(Outcome(f"{user} is out of {channel}; the channel is being told."))


def _reconcile(core: Core, values: Values, tell: Tell) -> None:
    repair = values["dry-run"] not in {"1", "true"}

    def then(outcome: UserFindings) -> None:
        if outcome.why:
            tell(Refusal("wait", "resource-constraint", outcome.why))
            return
        lines = tuple(map(sentence, outcome.findings))
        lines += tuple(f"{domain} did not answer: not looked at" for domain in outcome.silent)
        found = Field("findings", "Channels", "text-multi", values=lines or ("none",))
        tell(Outcome("Repaired." if repair else "Nothing was changed.", outcome.user, (found,)))

    core.reconcile.user(jid.parse(values["user"]), then, repair=repair)


def sentence(finding: Finding) -> str:
    """Describe a finding in one line."""
    if finding.verdict == "agree":
        return f"{finding.channel}: all agree"
    if finding.verdict == "differ":
        return f"{finding.channel}: {'; '.join(finding.repairs)}"
    return f"{finding.channel}: left alone, {finding.why}"


def _statistics(core: Core) -> Outcome:
    sums = totals(core)
    fields = tuple(
        Field(name, name.replace("_", " ").capitalize(), values=(str(getattr(sums, name)),))
        for name in sums.__slots__
    )
    return Outcome(None, "mixpam", fields)
