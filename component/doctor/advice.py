"""Changes to the server's configuration that remedy a problem, as lines for both servers."""

from __future__ import annotations

from component.doctor.result import Level, Result

TAP = "1.2"
"""Version of the taps that come with this version of mixpam."""


def unreachable(host: str, port: int, why: str) -> Result:
    """Say that nothing accepts a connection there."""
    return Result(
        "server-port",
        Level.WRONG,
        f"nothing listens on {host}:{port} ({why})",
        "Start the server, or correct MIXPAM_SERVER_HOST and MIXPAM_SERVER_PORT; the server"
        " must listen for components there.",
        prosody=f'component_ports = {{ {port} }}; component_interfaces = {{ "{host}" }}',
        ejabberd=f'listen: [{{port: {port}, ip: "{host}", module: ejabberd_service, …}}]',
    )


def handshake(reason: str, component: str) -> Result:
    """Explain why the server refused the component; `reason` is a stream error's condition."""
    match reason:
        case "not-authorized":
            return Result(
                "handshake",
                Level.WRONG,
                "the server says that our secret is wrong",
                "MIXPAM_SECRET and the server's must be the same. ejabberd says this also if it has"
                " no component of that name: see MIXPAM_COMPONENT_JID.",
                prosody=f'Component "{component}"\n    component_secret = "…"',
                ejabberd=f'hosts:\n  {component}:\n    password: "…"',
            )
        case "host-unknown":
            return Result(
                "handshake",
                Level.WRONG,
                f"the server has no component {component}",
                "MIXPAM_COMPONENT_JID must be the name that the server's configuration has, and"
                " MIXPAM_SERVER_PORT the port for components.",
                prosody=f'Component "{component}"\n    component_secret = "…"',
                ejabberd=f'hosts:\n  {component}:\n    password: "…"',
            )
        case "conflict":
            return Result(
                "handshake",
                Level.WARNING,
                "a component of this name is connected already; it was left alone, and with it"
                " all that only it can tell",
                "Run this where it runs, with its settings (MIXPAM_HTTP_PORT not 0).",
            )
        case "silent":
            return Result(
                "handshake",
                Level.WRONG,
                "the server took the connection and did not answer",
                "Is this the port for components? Clients' and servers' ports are others.",
                prosody="component_ports = { 5347 }",
                ejabberd="port: 5347\nmodule: ejabberd_service",
            )
    return Result(
        "handshake",
        Level.WRONG,
        f"the server ended the connection: {reason}",
        "Is this the port for components? Otherwise see the server's log.",
        prosody="component_ports = { 5347 }",
        ejabberd="port: 5347\nmodule: ejabberd_service",
    )


def tap_missing(domain: str, component: str) -> Result:
    """Say that no tap is connected for a domain."""
    return Result(
        f"tap {domain}",
        Level.WRONG,
        f"no tap has said hello for {domain}: it is not loaded there, or for another component",
        "Install mod_mixpam_tap, load it for that domain and name this component.",
        prosody=f'VirtualHost "{domain}"\n    modules_enabled = {{ "mixpam_tap" }}\n'
        f'    mixpam_component = "{component}"',
        ejabberd=f"modules:\n  mod_mixpam_tap:\n    component: {component}",
    )


def tap_version(domain: str, spoken: str, wanted: str) -> Result:
    """Say that the tap speaks another version of the tap protocol."""
    return Result(
        f"tap {domain}",
        Level.WRONG,
        f"the tap of {domain} speaks version {spoken} of the tap protocol, we speak {wanted}",
        "Install the tap that came with this version of mixpam, and reload it.",
        prosody=f"prosodyctl shell \"module:reload('mixpam_tap', '{domain}')\"",
        ejabberd="ejabberdctl module_upgrade mod_mixpam_tap",
    )


def tap_older(domain: str, has: str) -> Result:
    """Say that a tap speaks this protocol but lacks features of later ones."""
    return Result(
        f"tap {domain}",
        Level.WARNING,
        f"the tap of {domain} is {has}, older than {TAP}, which came with this version: it works,"
        " but large rosters wait for their annotation in vain, channels that a user only put into"
        " the roster are archived, and blocking a channel is not told to it",
        "Install the tap that came with this version of mixpam, and reload it.",
        prosody=f"prosodyctl shell \"module:reload('mixpam_tap', '{domain}')\"",
        ejabberd="ejabberdctl module_upgrade mod_mixpam_tap",
    )


def tap_is_older(has: str) -> bool:
    """Tell whether a tap's version is older than `TAP`; false for anything that is no version."""
    try:
        return [int(part) for part in has.split(".")] < [int(part) for part in TAP.split(".")]
    except ValueError:
        return False


def server_limit(domain: str, limit: int, wanted: int) -> Result:
    """Say that the server refuses stanzas as large as some that mixpam has to pass on."""
    return Result(
        f"limit {domain}",
        Level.WARNING,
        f"the server takes stanzas of {limit} bytes from us; with MIXPAM_MAX_STANZA_BYTES as it is,"
        f" some need {wanted}, and are not passed on",
        "Raise the server's limit, or lower MIXPAM_MAX_STANZA_BYTES.",
        prosody=f"component_stanza_size_limit = {wanted}",
        ejabberd=f"module: ejabberd_service\nmax_stanza_size: {wanted}",
    )


def archive_off(domain: str) -> Result:
    """Say that the server does not archive for its users by default."""
    return Result(
        f"archive {domain}",
        Level.WARNING,
        f"{domain} archives nothing by default: what a user's devices miss of a channel is gone",
        "Turn the archive on for all users.",
        prosody='modules_enabled = { "mam" }; default_archive_policy = true',
        ejabberd="modules:\n  mod_mam:\n    default: always",
    )


def sender_check_on(component: str) -> Result:
    """Say that the server ends the link when mixpam forwards a channel's stanza."""
    return Result(
        "sender-check",
        Level.WRONG,
        "the server checks our senders: it would cut the connection at the first message of"
        " a channel",
        "Switch that check off for this component only.",
        prosody=f'Component "{component}"\n    validate_from_addresses = false',
        ejabberd="module: ejabberd_service\ncheck_from: false",
    )


def features_missing(domain: str, expected: str) -> Result:
    """Say that a user's account does not show the MIX-PAM feature."""
    return Result(
        f"discovery {domain}",
        Level.WRONG,
        f"a user of {domain} does not see the feature {expected} on the own account",
        "mixpam must be running and connected, and service discovery loaded.",
        prosody='modules_enabled = { "disco" }',
        ejabberd="modules:\n  mod_disco: {}",
    )


def login_failed(domain: str, user: str, why: str) -> Result:
    """Say that a user's login did not work."""
    return Result(
        f"discovery {domain}",
        Level.WARNING,
        f"could not log in as {user}: {why}",
        "Correct --user or the password; if they are right, see the server's log.",
    )


def clients_unreachable(domain: str, host: str, port: int, why: str) -> Result:
    """Say that no client can connect there."""
    return Result(
        f"discovery {domain}",
        Level.WARNING,
        f"nothing takes clients of {domain} on {host}:{port} ({why})",
        "Correct --client-host or --client-port, or have the server listen for clients there.",
        prosody=f"c2s_ports = {{ {port} }}",
        ejabberd=f"listen: [{{port: {port}, module: ejabberd_c2s, …}}]",
    )


def no_trust(domain: str, host: str, why: str) -> Result:
    """Say that the server's TLS is not fit to send a password over."""
    return Result(
        f"discovery {domain}",
        Level.WARNING,
        f"the server on {host} cannot be trusted with a password: {why}",
        f"Give the server a certificate for {domain} that clients accept: they will refuse this"
        " one, too. If your own authority signed it, make that known to this machine"
        " (update-ca-certificates). On the server's own machine, with --client-host 127.0.0.1,"
        " any certificate will do.",
        prosody=f"prosodyctl --root cert import {domain} /etc/letsencrypt/live",
        ejabberd='certfiles: ["/etc/ejabberd/certs/*.pem"]',
    )
