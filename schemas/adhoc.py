"""Ad-hoc commands and their forms (XEP-0050, XEP-0004), by aioxmpp's classes.

A form is described by `Field`s; a submitted form is read as plain lists of texts, because a client
may leave the types of fields out.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from aioxmpp.adhoc import xso as commands
from aioxmpp.forms import xso as forms

from schemas import codec
from schemas.namespaces import COMMANDS, STANZAS

COMMAND_TAG = f"{{{COMMANDS}}}command"

FieldType = Literal["jid-single", "text-single", "text-multi", "boolean"]
Action = Literal["execute", "complete", "cancel", "next", "prev"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form: to be filled in, or a result with its values."""

    var: str
    label: str
    type: FieldType = "text-single"
    required: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A step that a client takes in a command.

    `fields` is None when no form was submitted with it.
    """

    node: str
    action: Action
    session: str | None
    fields: dict[str, list[str]] | None


def read(payload: ET.Element) -> Request:
    """Read a `<command/>`; raises schemas.codec.MalformedStanza for anything else."""
    command = codec.to_xso(payload, commands.Command)
    form = command.first_payload
    fields = None
    if form is not None and form.type_ == forms.DataType.SUBMIT:
        fields = {each.var: list(each.values) for each in form.fields if each.var}
    return Request(command.node, command.action.value, command.sessionid, fields)


def ask(node: str, session: str, title: str, text: str, fields: Iterable[Field]) -> ET.Element:
    """Build the step that sends a form to be filled in."""
    allowed = commands.Actions()
    allowed.execute = commands.ActionType.COMPLETE
    allowed.complete_is_allowed = True
    return codec.from_xso(
        commands.Command(
            node,
            status=commands.CommandStatus.EXECUTING,
            sessionid=session,
            payload=[_form(forms.DataType.FORM, title, text, fields)],
            actions=allowed,
        )
    )


def done(
    node: str, session: str, note: str | None, title: str = "", fields: Iterable[Field] = ()
) -> ET.Element:
    """Build the last step: a note, a form with results, or both."""
    shown = list(fields)
    return codec.from_xso(
        commands.Command(
            node,
            status=commands.CommandStatus.COMPLETED,
            sessionid=session,
            payload=[_form(forms.DataType.RESULT, title, "", shown)] if shown else [],
            notes=[] if note is None else [commands.Note(commands.NoteType.INFO, note)],
        )
    )


def canceled(node: str, session: str) -> ET.Element:
    """Build the answer to a client that cancels a command."""
    return codec.from_xso(
        commands.Command(node, status=commands.CommandStatus.CANCELED, sessionid=session)
    )


def bad_request(condition: str, text: str) -> ET.Element:
    """Build the error of a step that cannot be taken (XEP-0050 §4.4)."""
    error = ET.Element("{jabber:client}error", {"type": "modify"})
    ET.SubElement(error, f"{{{STANZAS}}}bad-request")
    ET.SubElement(error, f"{{{STANZAS}}}text").text = text
    ET.SubElement(error, f"{{{COMMANDS}}}{condition}")
    return error


def _form(type_: forms.DataType, title: str, text: str, fields: Iterable[Field]) -> forms.Data:
    form = forms.Data(type_)
    form.title = title
    if text:
        form.instructions.append(text)
    for field in fields:
        form.fields.append(
            forms.Field(
                type_=forms.FieldType(field.type),
                var=field.var,
                label=field.label,
                required=field.required,
                values=list(field.values),
            )
        )
    return form
