"""The demo's course: set up, play, leave it to the reader, clean up."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

from tour import parrot
from tour.ports import IP
from tour.screen import BOLD, DIM, Trouble, Unseen, facts, failed, line, paint, saw
from tour.stage import Stage
from tour.story import ALICE, BOB, Cast, play

STANDARD_PORT = 5222
INTERRUPTED = 130


def main() -> int:
    """Run the demo and return its exit status."""
    parser = argparse.ArgumentParser(prog="deploy/demo")
    parser.add_argument("--server", choices=("ejabberd", "prosody"), default="ejabberd")
    parser.add_argument("--once", action="store_true")
    options = parser.parse_args()
    return asyncio.run(_run(options.server, once=options.once))


async def _run(software: str, *, once: bool) -> int:
    stage = Stage(software)
    # slixmpp's and asyncio's complaints are for whoever looks into a failure.
    logging.basicConfig(filename=stage.folder / "clients.log", level=logging.INFO)
    course = asyncio.create_task(_course(stage, once=once))
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            line(f"\n {paint('Stopping ...', DIM)}")
            course.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    status = 1
    try:
        status = await course
    except asyncio.CancelledError:
        status = INTERRUPTED
    finally:
        keep = status == 1
        await stage.strike(keep=keep)
        if keep:
            line(f"      Logs and data are kept in {stage.folder}")
        elif interrupted:
            line(" Everything is stopped, nothing is left behind.")
    return status


async def _course(stage: Stage, *, once: bool) -> int:
    cast: Cast | None = None
    finished = False
    try:
        line(
            f"\n {paint('mixpam', BOLD)}  gives the users of an XMPP server MIX channels (XEP-0405)"
        )
        line(f"\n {paint('Setting up', BOLD)}  {paint(f'on {IP} only', DIM)}")
        cast = await stage.build()
        _introduce(cast, remote=stage.remote)
        await play(cast)
        finished = True
        if once:
            line(f"\n {paint('All of this was observed, nothing is assumed.', BOLD)}")
            return 0
        companion = await parrot.prepare(cast)
        _hand_over(cast)
        dead = await stage.watch()
        del companion
        failed(f"{dead.name} has ended by itself: {dead.last_words}")
    except asyncio.CancelledError:
        if not finished:
            raise
        return 0
    except Unseen as problem:
        failed(f"not observed: {problem.claim}", f"seen instead: {problem.seen}")
    except Trouble as problem:
        failed(str(problem))
    finally:
        if cast is not None:
            for device in cast.on:
                device.abort()
    return 1


def _introduce(cast: Cast, *, remote: bool) -> None:
    line(f"\n {paint('Who plays', BOLD)}")
    where = "another server, reached by s2s" if remote else "the same server's mod_mix"
    facts(
        [
            ("alice", "phone and laptop, which speak MIX; an old client, which does not"),
            ("bob", "one device, which speaks MIX"),
            ("the channel", f"{cast.channel} ({where})"),
        ]
    )


def _hand_over(cast: Cast) -> None:
    line(f"\n {paint('Your turn', BOLD)}  {paint('with any XMPP client on this machine', DIM)}")
    port = str(cast.port)
    if cast.port != STANDARD_PORT:
        port += f" ({STANDARD_PORT} is taken: tell your client)"
    facts(
        [
            ("alice", f"{ALICE}, password {cast.passwords[ALICE]}, already in the channel"),
            ("server", f"{IP} port {port}"),
            ("certificate", f"self-signed: accept it, or trust {cast.certificate}"),
            ("the channel", f"{cast.channel}, if your client speaks MIX (Kaidan does)"),
            ("bob", f"{BOB}, password {cast.passwords[BOB]}"),
            ("status page", f"http://{IP}:{cast.status}/ shows what mixpam is doing"),
        ]
    )
    saw("bob", "is back in the channel and answers whatever you say (he just answered alice)")
    line(f"\n {paint('Ctrl-C stops everything and removes it.', DIM)}")


if __name__ == "__main__":
    sys.exit(main())
