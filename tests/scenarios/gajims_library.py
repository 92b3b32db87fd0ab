"""Runs ad-hoc commands by nbxmpp, the library of Gajim, in the steps of Gajim's assistant.

A program of its own, for the system's Python: nbxmpp needs GLib. It is given JSON on its
standard input: `ip`, `jid`, `password`, `component` and `steps`, each a command's node and
the values to fill in (`null`: give the command up when its form has come). It prints JSON:
the `commands` found, and for each step what Gajim would have on its screen. As Gajim does,
it submits the very form it was given, and only if that is valid, by the default button.
"""

import json
import sys
from typing import Any

from gi.repository import GLib
from nbxmpp.client import Client
from nbxmpp.const import AdHocAction, ConnectionProtocol, ConnectionType
from nbxmpp.errors import StanzaError
from nbxmpp.modules.dataforms import extend_form

PATIENCE = 20


def fields(form: Any) -> dict[str, Any]:
    """Describe each field that would be drawn."""
    return {
        field.var: {
            "type": field.type_,
            "label": field.label,
            "required": field.required,
            "value": field.value,
        }
        for field in form.iter_fields()
    }


def screen(stage: Any) -> tuple[dict[str, Any], Any]:
    """Describe one page of the assistant."""
    form = None if stage.data is None else extend_form(node=stage.data)
    shown = {
        "completed": stage.is_completed,
        "canceled": stage.is_canceled,
        "buttons": sorted(action.value for action in stage.actions or ()),
        "default": stage.default and stage.default.value,
        "notes": [note.text for note in stage.notes or ()],
    }
    if form is not None:
        shown |= {
            "title": form.title, "instructions": form.instructions,
            "fields": fields(form), "valid": form.is_valid(),
        }  # fmt: skip
    return shown, form


class Console:
    """One session of one account, which does all steps and ends."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.result: dict[str, Any] = {"commands": {}, "steps": []}
        self.loop = GLib.MainLoop()
        self.todo = iter(task["steps"])
        self.pages: list[dict[str, Any]] = []
        local, _, domain = task["jid"].partition("@")
        client = self.client = Client(log_context="test")
        client.set_username(local)
        client.set_domain(domain)
        client.set_resource("gajim")
        client.set_password(task["password"])
        client.set_mechs(["PLAIN"])
        client.set_custom_host(f"{task['ip']}:5222", ConnectionProtocol.TCP, ConnectionType.PLAIN)
        client.subscribe("connected", self.connected)
        client.subscribe("connection-failed", self.failed)
        client.subscribe("disconnected", self.failed)

    def run(self) -> dict[str, Any]:
        """Do everything; give what was seen."""
        GLib.timeout_add_seconds(PATIENCE, sys.exit, f"not done in {PATIENCE} seconds")
        self.client.connect()
        self.loop.run()
        return self.result

    def failed(self, client: Any, *_: object) -> None:
        """End: without a connection there is nothing to see."""
        self.result["error"] = str(client.get_error())
        self.loop.quit()

    def connected(self, *_: object) -> None:
        """Ask for the list of commands, as the assistant does when it opens."""
        self.adhoc = self.client.get_module("AdHoc")
        self.adhoc.request_command_list(self.task["component"], callback=self.listed)

    def listed(self, task: Any) -> None:
        """Take the list, and begin with the first command."""
        try:
            self.commands = {command.node: command for command in task.finish()}
        except StanzaError as error:
            self.result["error"] = error.condition
            self.loop.quit()
            return
        self.result["commands"] = {node: each.name for node, each in self.commands.items()}
        self.next()

    def next(self) -> None:
        """Begin the next command, or end."""
        try:
            node, self.values = next(self.todo)
        except StopIteration:
            self.loop.quit()
            return
        self.pages = []
        self.result["steps"].append(self.pages)
        self.adhoc.execute_command(
            self.commands[node], action=AdHocAction.EXECUTE, callback=self.staged
        )

    def staged(self, task: Any) -> None:
        """Take a page: show it, and press a button unless it is the last."""
        try:
            stage = task.finish()
        except StanzaError as error:
            self.pages.append({"error": error.condition, "text": error.get_text()})
            self.next()
            return
        page, form = screen(stage)
        self.pages.append(page)
        if stage.is_completed or stage.is_canceled:
            self.next()
        elif self.values is None:
            self.adhoc.execute_command(stage, AdHocAction.CANCEL, callback=self.staged)
        else:
            for var, value in self.values.items():
                form[var].value = value
            page["valid when filled in"] = form.is_valid()
            form.type_ = "submit"
            self.adhoc.execute_command(stage, stage.default, dataform=form, callback=self.staged)


print(json.dumps(Console(json.load(sys.stdin)).run()))
