"""Checks the server through a running component, without disturbing it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from component.doctor import advice
from component.doctor.link import archive, serving
from component.doctor.result import Level, Result, ok


def results(state: dict[str, Any], component: str) -> Iterator[Result]:
    """Yield the results that follow from `/api/link`."""
    link = state.get("link", {})
    yield ok(
        "running",
        f"mixpam {state.get('version', '?')} is running for {state.get('component', '?')};"
        " it was asked, and its connection left alone",
    )
    if state.get("component") != component:
        yield Result(
            "running",
            Level.WRONG,
            f"the component that answers is {state.get('component')}, not {component}",
            "Give each of them its own MIXPAM_HTTP_PORT.",
        )
        return
    if link.get("state") == "standby":
        yield ok("handshake", "another process serves this component; this one stands by")
        return
    if link.get("state") != "up":
        reason = str(link.get("reason", "")) or "not connected yet"
        yield (
            advice.sender_check_on(component)
            if reason == "invalid-from"
            else advice.handshake(reason, component)
        )
        return
    yield ok("handshake", f"connected as {component} since {link.get('since', '?')}")
    for domain in state.get("domains", []):
        name = str(domain.get("domain"))
        if not domain.get("version"):
            yield advice.tap_missing(name, component)
            continue
        yield serving(name, str(domain["version"]), str(domain.get("software")))
        if domain.get("limit"):
            yield advice.server_limit(name, int(domain["limit"]), int(domain["wanted"]))
        yield archive(name, on=bool(domain.get("archive")))
        if not domain.get("ready"):
            yield Result(
                f"ready {name}",
                Level.WARNING,
                f"the tap of {name} has not told of all sessions yet",
                "Wait a moment; if it stays so, see the server's log.",
            )
