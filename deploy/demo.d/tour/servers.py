"""The servers of the demo, configured by the examples that operators get.

The examples are changed textually and as little as possible: paths, ports, names, the
secret. Users are at ``localhost``, which every client finds without a name server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.examples import SECRET, example, replaced
from harness.machines import REPOSITORY, Machine, host_suite
from harness.process import Process

from tour.ports import COMPONENT, DOMAIN, IP, REMOTE
from tour.screen import Trouble

LIBRARIES = "/usr/lib"
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

REMOTE_EJABBERD = """\
hosts:
  - {domain}
loglevel: info
certfiles:
  - "{certificate}"
s2s_use_starttls: optional
# localhost has no dot, so ejabberd asks for no SRV record: this is its port.
outgoing_s2s_port: {back}
s2s_max_retry_delay: 1
listen:
  -
    port: {port}
    ip: "{ip}"
    module: ejabberd_s2s_in
modules:
  mod_disco: {{}}
  mod_mam:
    default: always
  mod_mix: {{}}
  mod_ping: {{}}
  mod_s2s_dialback: {{}}
"""


@dataclass(frozen=True)
class Layout:
    """Where things are: `folder`, the certificate, and the port of each purpose."""

    folder: Path
    certificate: Path
    c2s: int
    s2s: int
    component: int
    remote: int
    redis: int
    http: int
    secret: str


def environment(**more: str) -> dict[str, str]:
    """Return what a child may know of its surroundings."""
    kept = {k: v for k, v in os.environ.items() if k in {"LANG", "TZ", "TMPDIR"}}
    return {"PATH": SEARCH, "LANG": "C.UTF-8", **kept, **more}


def redis(folder: Path, port: int) -> Process:
    """Return a Redis that keeps what mixpam remembers."""
    argv = ["redis-server", "--bind", IP, "--port", str(port), "--dir", str(folder)]
    argv += ["--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
    return Process("Redis", argv, folder / "redis.log", env=environment())


def component(layout: Layout, python: str) -> Process:
    """Return mixpam itself."""
    settings = environment(
        PYTHONPATH=str(REPOSITORY),
        MIXPAM_COMPONENT_JID=COMPONENT,
        MIXPAM_SECRET=layout.secret,
        MIXPAM_SERVER_HOST=IP,
        MIXPAM_SERVER_PORT=str(layout.component),
        MIXPAM_DOMAINS=DOMAIN,
        MIXPAM_REDIS_URL=f"redis://{IP}:{layout.redis}/0",
        MIXPAM_HTTP_HOST=IP,
        MIXPAM_HTTP_PORT=str(layout.http),
        MIXPAM_LOG_FORMAT="json",
    )
    argv = [python, "-P", "-m", "component", "run"]
    return Process("mixpam", argv, layout.folder / "mixpam.log", env=settings)


async def ejabberd(layout: Layout) -> Process:
    """Write the configuration of ejabberd with tap and channels; return it, not started."""
    folder = layout.folder / "ejabberd"
    folder.mkdir()
    await _compile_tap(folder)
    text = replaced(
        example("ejabberd/ejabberd.yml"),
        {
            "/etc/ejabberd/certs/*.pem": str(layout.certificate.with_suffix(".pem")),
            "mixpam.example.org": COMPONENT,
            "- example.org": f"- {DOMAIN}",
            "port: 5222": f"port: {layout.c2s}",
            "port: 5269": f"port: {layout.s2s}",
            "port: 5347": f"port: {layout.component}",
            SECRET: layout.secret,
            # The channel service: ejabberd's own, at mix.localhost.
            "modules:\n": "modules:\n  mod_mix: {}\n",
        },
    )
    return _erlang("ejabberd", folder, text)


def remote_ejabberd(layout: Layout, name_server: int) -> Process:
    """Write the configuration of an ejabberd that has nothing but channels; return it.

    It asks the UDP port `name_server` where other servers are.
    """
    folder = layout.folder / "remote-ejabberd"
    folder.mkdir()
    text = REMOTE_EJABBERD.format(
        domain=REMOTE,
        certificate=layout.certificate.with_suffix(".pem"),
        ip=IP,
        port=layout.remote,
        back=layout.s2s,
    )
    names = f"{{nameserver, {{127,0,0,1}}, {name_server}}}.\n"
    return _erlang("the other server", folder, text, names)


def prosody(layout: Layout) -> Process:
    """Write the configuration of Prosody with the tap; return it, not started."""
    folder = layout.folder / "prosody"
    for name in ("data", "modules"):
        (folder / name).mkdir(parents=True)
    shutil.copy(REPOSITORY / "deploy/prosody/mod_mixpam_tap.lua", folder / "modules")
    names = f"{IP}:{layout.remote} {REMOTE} mix.{REMOTE}\n"
    (folder / "names").write_text(names, "utf-8")
    shutil.copy(REPOSITORY / "tests/harness/lua/mod_private_names.lua", folder / "modules")
    more = (
        f'certificates = "{layout.certificate.parent}"\n'
        f'private_names = "{folder / "names"}"\n'
        f"c2s_direct_tls_ports = {{}}\ns2s_direct_tls_ports = {{}}\nuse_ipv6 = false\n"
        + ("run_as_root = true\n" if os.geteuid() == 0 else "")
    )
    text = replaced(
        example("prosody/prosody.cfg.lua"),
        {
            "/usr/local/lib/prosody/modules": str(folder / "modules"),
            "/var/lib/prosody": str(folder / "data"),
            "/run/prosody/prosody.pid": str(folder / "prosody.pid"),
            "mixpam.example.org": COMPONENT,
            '"example.org"': f'"{DOMAIN}"',
            "{ 5222 }": f"{{ {layout.c2s} }}",
            "{ 5269 }": f"{{ {layout.s2s} }}",
            "{ 5347 }": f"{{ {layout.component} }}",
            SECRET: layout.secret,
            "modules_enabled = {": 'modules_enabled = { "private_names";',
            'VirtualHost "': more + '\nVirtualHost "',
        },
    )
    config = folder / "prosody.cfg.lua"
    config.write_text(text, "utf-8")
    argv = ["prosody", "-F", "--config", str(config)]
    return Process(
        "Prosody", argv, folder / "server.log", env=environment(HOME=str(folder)), cwd=folder
    )


async def prosody_account(layout: Layout, name: str, password: str) -> None:
    """Make an account as operators do, with prosodyctl. Raises Trouble when it refuses."""
    folder = layout.folder / "prosody"
    config = str(folder / "prosody.cfg.lua")
    await _run(folder, "prosodyctl", "--config", config, "register", name, DOMAIN, password)


def _erlang(name: str, folder: Path, configuration: str, names: str = "") -> Process:
    (folder / "ejabberd.yml").write_text(configuration, "utf-8")
    # Not the machine's name servers: without `names`, a question for SRV records fails at once.
    (folder / "inetrc").write_text(f'{{resolv_conf, ""}}.\n{names}{{lookup, [file]}}.\n', "utf-8")
    # No node name: no epmd is needed, and nobody can attach.
    argv = ["erl", "-noinput", "+sbwt", "none", "-pa", str(folder), "-s", "ejabberd"]
    argv += ["-mnesia", "dir", f'"{folder / "mnesia"}"']
    surroundings = environment(
        HOME=str(folder),
        ERL_LIBS=str(_ejabberd_home().parent),
        ERL_INETRC=str(folder / "inetrc"),
        ERL_CRASH_DUMP_BYTES="0",
        EJABBERD_CONFIG_PATH=str(folder / "ejabberd.yml"),
    )
    return Process(name, argv, folder / "server.log", env=surroundings, cwd=folder)


def _ejabberd_home() -> Path:
    """Return the folder of the installed ejabberd. Raises Trouble without one."""
    found = sorted(Path(LIBRARIES).glob("*/ejabberd-*/ebin/ejabberd.beam"))
    if not found:
        raise Trouble("ejabberd is not where Debian puts it; run: apt-get install ejabberd")
    return found[0].parents[1]


async def _compile_tap(folder: Path) -> None:
    sources = sorted((REPOSITORY / "deploy/ejabberd/src").glob("*.erl"))
    headers = Machine(host_suite()).headers()
    await _run(folder, "erlc", *headers, "-o", str(folder), *map(str, sources))


async def _run(folder: Path, *argv: str) -> None:
    child = await asyncio.create_subprocess_exec(
        *argv,
        env=environment(HOME=str(folder)),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await child.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        raise
    if child.returncode:
        said = output.decode("utf-8", "replace").strip().splitlines() or ["without a word"]
        telling = next((text for text in said if "error" in text.lower()), said[0])
        raise Trouble(f"{argv[0]} failed: {telling}")


def new_secret() -> str:
    """Return the word the server and mixpam share in this run."""
    return secrets.token_hex(16)
