"""A first message on the reader's own server: two accounts, three devices, one channel.

The users leave again. The channel stays: whether it was there before is more than can be
known, as mod_mix lets its owner make it twice.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import logging
import secrets
import sys

from slixmpp import JID, InvalidJID
from slixmpp.exceptions import IqError, IqTimeout

from tour.device import Device, archive_ids, says
from tour.ports import IP, is_loopback
from tour.screen import Trouble, Unseen, failed, line, saw
from tour.story import join, leave, why

ABOUT = """\
Log in as two accounts of your server, the first with two devices; join a channel with
both, say one line there, and see that each device gets it once. Afterwards both leave."""

EXAMPLE = """\
example:
  deploy/first-message coven@mix.example.org romeo@example.org julia@example.org

A channel that is not there is made, if its service lets the second account do that, and
stays. Take one of its own for this: whoever is in it reads the line, too.
Passwords are asked for; where there is no terminal, they are read from standard input, one
on each line. The exit status is 0 if all was observed, else 1."""


def main() -> int:
    """Run the program and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="deploy/first-message",
        description=ABOUT,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("channel", type=_address, help="the channel's address")
    parser.add_argument("listener", type=_address, help="account that gets the message, twice")
    parser.add_argument("speaker", type=_address, help="account that says it")
    parser.add_argument("--host", default=IP, help="where clients connect (%(default)s)")
    parser.add_argument("--port", type=int, default=5222, help="and the port (%(default)s)")
    parser.add_argument("--no-tls", action="store_true", help="log in openly; on this machine only")
    options = parser.parse_args()
    if options.listener == options.speaker:
        parser.error("the two accounts must differ")
    if options.no_tls and not is_loopback(options.host):
        parser.error("--no-tls is for a --host on this machine: others could read the passwords")
    # What slixmpp has to complain about is said below in words of our own.
    logging.basicConfig(level=logging.CRITICAL)
    try:
        passwords = [_password(user) for user in (options.listener, options.speaker)]
        asyncio.run(_run(options, passwords))
    except Trouble as error:
        failed(str(error))
    except Unseen as unseen:
        failed(f"not observed: {unseen.claim}", f"instead: {unseen.seen}")
        line("      `mixpam check --user` says what is not set up as it must be.")
    except KeyboardInterrupt:
        return 130
    else:
        line("    The first message has been fanned out.")
        return 0
    return 1


def _address(text: str) -> str:
    try:
        jid = JID(text)
    except InvalidJID:
        raise argparse.ArgumentTypeError(f"{text!r} is no address") from None
    if not jid.user or jid.resource:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name@domain")
    return str(jid)


def _password(user: str) -> str:
    if sys.stdin.isatty():
        return getpass.getpass(f"Password of {user}: ")
    if password := sys.stdin.readline().rstrip("\n"):
        return password
    raise Trouble(f"There is no terminal to ask for the password of {user}, and no line to read.")


async def _run(options: argparse.Namespace, passwords: list[str]) -> None:
    # Here and not before: slixmpp's clients take the loop that runs when they are made.
    await _First(options, passwords).run()


class _First:
    def __init__(self, options: argparse.Namespace, passwords: list[str]) -> None:
        self._options = options
        self._channel: str = options.channel
        self._name, _, self._service = self._channel.partition("@")
        listener, speaker = passwords
        self._phone = Device(options.listener, "phone", listener)
        self._laptop = Device(options.listener, "laptop", listener)
        self._desk = Device(options.speaker, "desk", speaker)
        self._joined: list[Device] = []

    async def run(self) -> None:
        """Do it all, and leave again. Raises Unseen or Trouble."""
        devices = (self._phone, self._laptop, self._desk)
        try:
            for device in devices:
                if self._options.no_tls:
                    device.do_without_tls()
                await device.online(self._options.port, host=self._options.host)
                await device.fence(device.boundjid.domain)
            saw("three devices", "are online")
            await self._channel_there()
            for device, nick in ((self._phone, "Listener"), (self._desk, "Speaker")):
                await join(device, self._channel, nick)
                self._joined.append(device)
            saw("both accounts", f"have joined {self._channel}")
            await self._speak(devices)
        finally:
            await self._go(devices)

    async def _channel_there(self) -> None:
        try:
            await self._desk.plugin["xep_0369"].create_channel(
                JID(self._service), self._name, timeout=20
            )
        except IqTimeout as error:
            raise Unseen(f"{self._service} answers", why(error)) from None
        except IqError as error:
            if error.condition != "conflict":
                # Who may not make one can join one that is there.
                said = f"does not make the channel, but it may be there: {why(error)}"
                saw(self._service, said, nothing=True)
                return
        saw(self._service, f"has a channel {self._name}")

    async def _speak(self, devices: tuple[Device, ...]) -> None:
        # Twice: each answers the component's question about its abilities meanwhile.
        for device in devices:
            await device.fence(device.boundjid.domain, device.boundjid.domain)
        text = f"A first message ({secrets.token_hex(4)})"
        self._desk.say(self._channel, text)
        for device in devices:
            if await device.seen(says(text), 20) is None:
                raise Unseen(f"{device.boundjid} gets the message", "nothing, for 20 seconds")
        for device in devices:
            await device.fence(self._service, device.boundjid.domain)
            if (count := len(device.copies(text))) != 1:
                raise Unseen("one copy for each device", f"{count} for {device.boundjid}")
        saw("each device", f'got "{text}" once')
        user = self._phone.user
        first, second = (archive_ids(d.copies(text)[0], user) for d in devices[:2])
        if first != second:
            raise Unseen("one archive id on both devices", f"{first} and {second}")
        if first:
            saw("the archive", f"of {user} has it as {first[0]}")
        else:
            saw("the archive", f"of {user} does not have it: its server keeps none", nothing=True)

    async def _go(self, devices: tuple[Device, ...]) -> None:
        for device in self._joined:
            await leave(device, self._channel)
        for device in devices:
            await device.off()
