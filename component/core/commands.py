"""Ad-hoc commands for the operator's XMPP client (XEP-0050), on the component's own JID.

Only for the bare JIDs in MIXPAM_ADMINS: anybody else is refused, and is not told which
commands there are. A command hands out its form, takes it filled in and answers, at
once or when the servers it had to ask have answered. A form may also come filled in
with the first request.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from component.core.context import Context
from component.core.errors import Refusal
from schemas import adhoc, jid
from schemas import stanza as stanzas
from schemas.adhoc import Field
from schemas.jid import Jid
from schemas.namespaces import COMMANDS, DATA, DISCO_INFO, DISCO_ITEMS
from schemas.stanza import Stanza

_ITEMS_TAG = f"{{{DISCO_ITEMS}}}query"
_INFO_TAG = f"{{{DISCO_INFO}}}query"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a command: a note, a form with results, or both."""

    note: str | None
    title: str = ""
    fields: tuple[Field, ...] = ()


Tell = Callable[[Outcome | Refusal], None]
Values = dict[str, str]


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `run` gets the values of `form`, required ones not empty, and tells."""

    node: str
    name: str
    text: str
    form: tuple[Field, ...]
    run: Callable[[Values, Tell], None]


class Commands:
    """Answers what admins ask of the command nodes."""

    def __init__(
        self, context: Context, admins: frozenset[Jid], commands: tuple[Command, ...]
    ) -> None:
        self._context = context
        self._admins = admins
        self._commands = {command.node: command for command in commands}
        self._sessions: OrderedDict[tuple[Jid, str], str] = OrderedDict()

    def takes(self, stanza: Stanza) -> bool:
        """Tell whether a request to the component is about commands."""
        payload = stanza.payload
        if payload is None or not self._commands:
            return False
        if payload.tag == adhoc.COMMAND_TAG:
            return True
        node = payload.get("node", "")
        return payload.tag in {_ITEMS_TAG, _INFO_TAG} and (
            node == COMMANDS or node in self._commands
        )

    def is_admin(self, sender: Jid) -> bool:
        """Tell whether this JID may run commands."""
        return sender.bare in self._admins

    def request(self, stanza: Stanza) -> None:
        """Answer a request that `takes` has taken.

        Raises Refusal: forbidden for all but admins, item-not-found for an unknown command.
        """
        payload = stanza.payload
        if not self.is_admin(stanza.sender):
            raise Refusal("auth", "forbidden", "only addresses in MIXPAM_ADMINS may do this")
        if payload is None or payload.tag != adhoc.COMMAND_TAG:
            self._discover(stanza)
        elif stanza.type == "set":
            self._step(stanza, adhoc.read(payload))
        else:
            raise Refusal("modify", "bad-request", "commands take type='set'")

    # -- discovery (XEP-0050 §3) ----------------------------------------------------------

    def _discover(self, stanza: Stanza) -> None:
        payload = stanza.payload
        if payload is None or stanza.type != "get":
            raise Refusal("modify", "bad-request", "service discovery takes type='get'")
        node = payload.get("node", "")
        reply = ET.Element(payload.tag, {"node": node})
        if payload.tag == _INFO_TAG:
            command = self._commands.get(node)
            kind = "command-list" if command is None else "command-node"
            name = "Commands" if command is None else command.name
            identity = {"category": "automation", "type": kind, "name": name}
            ET.SubElement(reply, f"{{{DISCO_INFO}}}identity", identity)
            for feature in (COMMANDS, DATA):
                ET.SubElement(reply, f"{{{DISCO_INFO}}}feature", {"var": feature})
        elif node == COMMANDS:
            for command in self._commands.values():
                item = {"jid": str(stanza.to), "node": command.node, "name": command.name}
                ET.SubElement(reply, f"{{{DISCO_ITEMS}}}item", item)
        self._reply(stanza, reply)

    # -- steps (XEP-0050 §4) --------------------------------------------------------------

    def _step(self, stanza: Stanza, step: adhoc.Request) -> None:
        command = self._commands.get(step.node)
        if command is None:
            raise Refusal("cancel", "item-not-found", "there is no such command")
        session = step.session
        if session is None:
            session = self._context.new_id()
        elif self._sessions.pop((stanza.sender, session), None) != step.node:
            self._refuse_step(stanza, "bad-sessionid", "that form is not open any more")
            return
        if step.action == "cancel":
            self._reply(stanza, adhoc.canceled(command.node, session))
        elif step.action not in {"execute", "complete", "next"}:
            self._refuse_step(stanza, "bad-action", "there is no step to go back to")
        elif command.form and step.fields is None:
            self._hand_out(stanza, command, session)
        else:
            self._run(stanza, command, session, step.fields or {})

    def _hand_out(self, stanza: Stanza, command: Command, session: str) -> None:
        self._sessions[stanza.sender, session] = command.node
        while len(self._sessions) > self._context.limits.command_sessions:
            self._sessions.popitem(last=False)
        self._reply(
            stanza, adhoc.ask(command.node, session, command.name, command.text, command.form)
        )

    def _run(
        self, stanza: Stanza, command: Command, session: str, fields: dict[str, list[str]]
    ) -> None:
        values = {
            field.var: "".join(fields.get(field.var, field.values)).strip()
            for field in command.form
        }
        for field in command.form:
            if field.required and not values[field.var]:
                self._refuse_step(stanza, "bad-payload", f"{field.label}: is missing")
                return
            if field.type == "jid-single" and values[field.var]:
                try:
                    values[field.var] = str(jid.parse(values[field.var]).bare)
                except ValueError as error:
                    self._refuse_step(stanza, "bad-payload", f"{field.label}: {error}")
                    return

        def tell(outcome: Outcome | Refusal) -> None:
            if isinstance(outcome, Refusal):
                self._context.refuse(stanza, outcome)
            else:
                note, title, shown = outcome.note, outcome.title, outcome.fields
                self._reply(stanza, adhoc.done(command.node, session, note, title, shown))

        self._context.report("command", node=command.node, admin=str(stanza.sender.bare))
        command.run(values, tell)

    # -- answers --------------------------------------------------------------------------

    def _reply(self, stanza: Stanza, payload: ET.Element) -> None:
        self._context.send(
            stanzas.make(stanzas.IQ, "result", stanza.to, stanza.sender, stanza.id, payload)
        )

    def _refuse_step(self, stanza: Stanza, condition: str, text: str) -> None:
        self._context.count("refused", condition)
        error = adhoc.bad_request(condition, text)
        self._context.send(
            stanzas.make(stanzas.IQ, "error", stanza.to, stanza.sender, stanza.id, error)
        )
