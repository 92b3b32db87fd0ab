"""The answer to a search for one user: devices, channels and what is under way."""

from __future__ import annotations

from component.core.machine import Core
from component.http.words import NOTHING, plural, text
from component.operator.views import ChannelView, DeviceView, OperationView, UserView, describe_user
from schemas import jid
from schemas.namespaces import MIX_NODES


def person(core: Core, asked: str) -> str:
    """Show what is known of the user with the address `asked`."""
    try:
        user = jid.parse(asked).bare
    except ValueError:
        user = None
    if user is None or user.local is None:
        return _nothing(f"“{asked}” is no user's address; they look like name@example.org.")
    view = describe_user(core, user)
    if not view.local:
        return _nothing(f"{view.user} is not on a domain that mixpam serves.")
    if not view.known:
        return _nothing(f"{view.user} is offline and in no channel, or does not exist.")
    mix = sum(device.mix for device in view.devices)
    summary = (
        f"{plural(len(view.devices), 'device')} online, {mix} with MIX;"
        f" in {plural(len(view.channels), 'channel')}"
    )
    return (
        f'<div class="card person"><h3>{text(view.user)}</h3><p class="quiet">{summary}</p>'
        f"{_devices(view)}{_channels(view)}{_operations(view)}</div>"
    )


def _nothing(sentence: str) -> str:
    return f'<p class="card quiet">{text(sentence)}</p>'


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Make a table; cells are HTML already."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{name}"><div>{cell}</div></td>'
            for name, cell in zip(columns, cells, strict=True)
        )
        + "</tr>"
        for cells in rows
    )
    return f"<h4>{title}</h4><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _devices(view: UserView) -> str:
    if not view.devices:
        return '<h4>Devices</h4><p class="quiet">None is online.</p>'
    return _table("Devices", ("Resource", "MIX", "Why"), [_device(each) for each in view.devices])


def _device(device: DeviceView) -> tuple[str, ...]:
    if device.mix:
        versions = " and ".join(f"core:{version}" for version in device.core)
        badge = f'<span class="badge ok">MIX</span> <span class="quiet">{versions}</span>'
    elif device.evidence == "open":
        badge = '<span class="badge wait">not yet</span>'
    else:
        badge = '<span class="badge off">no MIX</span>'
    why = f"{device.why[:1].upper()}{device.why[1:]}."
    if device.hibernated:
        why += " Its connection is paused; the server keeps what is sent to it."
    return f"<code>{text(device.resource)}</code>", badge, text(why)


def _channels(view: UserView) -> str:
    columns = ("Channel", "Nick", "Participant", "Subscription", "Nodes")
    return _table("Channels", columns, [_channel(each) for each in view.channels])


def _channel(channel: ChannelView) -> tuple[str, ...]:
    subscription = "from" if channel.shares_presence else "none"
    meaning = "presence is shared" if channel.shares_presence else "presence is not shared"
    nodes = ", ".join(node.removeprefix(MIX_NODES) for node in channel.nodes)
    return (
        f"<code>{text(channel.channel)}</code>",
        text(channel.nick or NOTHING),
        f"<code>{text(channel.participant_id)}</code>",
        f'<span title="{meaning}">{subscription}</span>',
        text(nodes or NOTHING),
    )


def _operations(view: UserView) -> str:
    columns = ("Channel", "What", "How far")
    return _table("Under way", columns, [_operation(each) for each in view.operations])


def _operation(operation: OperationView) -> tuple[str, ...]:
    steps = {
        None: "has not begun",
        "ask": "waits for the channel",
        "roster": "waits for the roster",
    }
    step = steps.get(operation.step, operation.step)
    if not operation.running:
        step = "was cut off; finished or undone when the link is up"
    by = "" if operation.device is None else f" by {operation.device}"
    return (
        f"<code>{text(operation.channel)}</code>",
        text(f"{operation.kind}{by}"),
        text(step),
    )
