"""A channel service with a memory: the participants of channels, and their devices.

It stands for a service on another server: only a fault of the server reaches its wire, and its
memory survives that.
"""

from dataclasses import dataclass, field

from harness import ns
from harness.component import Link
from harness.fake import FakeService, Script, error, joined, result
from harness.stanza import Stanza
from harness.stream import fresh

from kills.steps import Steps


@dataclass
class Room:
    """One channel: its participants, and the devices that are available to it.

    `accepted` are the bodies of messages that the server has certainly received, `unsure` those
    sent to a server that was killed before it confirmed them. `owed` has the recipients of a
    message: those who were in the channel, but not one whose join was under way.
    """

    jid: str
    participants: dict[str, str] = field(default_factory=dict)
    available: set[str] = field(default_factory=set)
    accepted: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    owed: dict[str, set[str]] = field(default_factory=dict)


class Venue(FakeService):
    """The service. Every stanza that it receives or sends is a step."""

    def __init__(self, link: Link, steps: Steps) -> None:
        super().__init__(link)
        self.rooms: dict[str, Room] = {}
        self._steps = steps
        self._fences: dict[str, tuple[Room, str]] = {}

    def room(self) -> Room:
        """Open a fresh channel."""
        room = Room(f"{fresh('coven')}@{self.jid}")
        self.rooms[room.jid] = room
        return room

    def of(self, user: str) -> dict[str, str]:
        """Return a user's channels: channel -> participant id."""
        return {
            room.jid: room.participants[user]
            for room in self.rooms.values()
            if user in room.participants
        }

    # -- the wire ------------------------------------------------------------------------

    def send(self, xml: str) -> None:
        """Send a stanza; while the server is down it is lost."""
        if self.connected:
            self._steps.carry("channel>", xml.encode(), self._write_if_there)

    def _write_if_there(self, data: bytes) -> None:
        if self.connected:
            self.write(data)

    def arrived(self, stanza: Stanza) -> None:
        """Take a stanza; the service acts on it at once."""
        self._steps.note("channel<", stanza.raw)
        fenced = self._fences.pop(stanza["id"], None)
        if fenced is not None:
            room, body = fenced
            room.unsure.remove(body)
            room.accepted.append(body)
        if stanza.name == "presence":
            self._presence(stanza)
        super().arrived(stanza)

    # -- what channels do ----------------------------------------------------------------

    def say_to_all(self, room: Room, body: str, *, newcomer: str = "") -> None:
        """Send a message to every participant, and a ping to confirm that the server has it."""
        id_ = fresh("said")
        for user in room.participants:
            self.send(
                f"<message from='{room.jid}' to='{user}' id='{id_}' type='groupchat'>"
                f"<body>{body}</body><mix xmlns='{ns.CORE1}'><nick>Hecate</nick></mix></message>"
            )
        room.owed[body] = room.participants.keys() - {newcomer}
        room.unsure.append(body)
        fence = fresh("fence-")
        self._fences[fence] = (room, body)
        self.send(
            f"<iq type='get' id='{fence}' from='{self.jid}' to='{self.place.domain}'>"
            f"<ping xmlns='{ns.PING}'/></iq>"
        )

    def kick(self, room: Room, user: str) -> None:
        """Remove a participant and notify everybody, including the kicked one (XEP-0369 §7.1.3)."""
        told = list(room.participants)
        self._retract(room, room.participants.pop(user), told)
        self._forget_devices(room, user)

    def _retract(self, room: Room, pid: str, told: list[str]) -> None:
        for user in told:
            self.event(room.jid, user, "participants", f"<retract id='{pid}'/>")

    def _forget_devices(self, room: Room, user: str) -> None:
        room.available = {jid for jid in room.available if jid.partition("/")[0] != user}

    def _presence(self, stanza: Stanza) -> None:
        """Record a participant's device and send its presence to the others (XEP-0403)."""
        room = self.rooms.get(stanza["to"])
        bare, _, resource = stanza["from"].partition("/")
        if room is None or bare not in room.participants or not resource:
            return
        if stanza["type"] == "unavailable":
            room.available.discard(stanza["from"])
        elif stanza["type"] == "":
            room.available.add(stanza["from"])
        kind = f" type='{stanza['type']}'" if stanza["type"] else ""
        sender = f"{room.participants[bare]}#{room.jid}/{resource}"
        for user in room.participants:
            if user != bare:
                self.send(f"<presence from='{sender}' to='{user}'{kind}/>")

    def _answer(self, stanza: Stanza) -> str | None:
        if stanza.find(f"{{{ns.PING}}}ping") is not None:
            return result(stanza)
        room = self.rooms.get(stanza["to"])
        if stanza.find(f"{{{ns.DISCO_INFO}}}query") is not None and (
            room is not None or stanza["to"] == self.jid
        ):
            return result(stanza, self._disco())
        if room is None:
            return error(stanza, "cancel", "item-not-found")
        return self._of_room(stanza, room)

    def _of_room(self, stanza: Stanza, room: Room) -> str | None:
        user = stanza["from"]
        if stanza.find(f"{{{ns.CORE1}}}join") is not None:
            is_new = user not in room.participants
            pid = room.participants.setdefault(user, fresh("pid"))
            if is_new:
                self.say_to_all(room, fresh("welcome "), newcomer=user)
            return joined(stanza, Script(room.jid, pid=pid))
        if stanza.find(f"{{{ns.CORE1}}}leave") is not None:
            gone = room.participants.pop(user, None)
            if gone is None:
                return error(stanza, "cancel", "item-not-found")
            self._forget_devices(room, user)
            self._retract(room, gone, list(room.participants))
            return result(stanza, f"<leave xmlns='{ns.CORE1}'/>")
        return self._of_participants(stanza, room)

    def _of_participants(self, stanza: Stanza, room: Room) -> str:
        """Answer requests that only participants may make: for participants and for messages."""
        asked = stanza.find(f"{{{ns.PUBSUB}}}pubsub/{{{ns.PUBSUB}}}items")
        archive = stanza.find(f"{{{ns.MAM}}}query")
        if asked is None and archive is None:
            return error(stanza, "cancel", "feature-not-implemented")
        if stanza["from"] not in room.participants:
            return error(stanza, "auth", "forbidden")
        if asked is None:
            return result(stanza, f"<fin xmlns='{ns.MAM}' complete='true'/>")
        items = "".join(
            f"<item id='{pid}'><participant xmlns='{ns.CORE1}'><jid>{user}</jid></participant>"
            "</item>"
            for user, pid in room.participants.items()
        )
        node = f"<items node='{ns.NODES}participants'>{items}</items>"
        return result(stanza, f"<pubsub xmlns='{ns.PUBSUB}'>{node}</pubsub>")
