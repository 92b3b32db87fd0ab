"""Private ejabberd instances: with the tap as shipped to operators, or as a MIX service."""

import asyncio
import os
import shutil
from pathlib import Path

from harness.component import SECRET
from harness.examples import SECRET as EXAMPLE_SECRET
from harness.examples import example, replaced
from harness.server import DEBUG, Server

MIX_ONLY = """\
hosts:
  - {domain}
loglevel: info
auth_password_format: plain
s2s_use_starttls: false
listen:
  -
    port: 5222
    ip: "{ip}"
    module: ejabberd_c2s
  -
    port: 5269
    ip: "{ip}"
    module: ejabberd_s2s_in
modules:
  mod_disco: {{}}
  mod_mam:
    default: always
  mod_mix:
    host: mix.{domain}
  mod_ping: {{}}
  mod_register:
    ip_access: all
  mod_roster: {{}}
  mod_s2s_dialback: {{}}
registration_timeout: infinity
s2s_max_retry_delay: 1
"""

EXTRA_LISTENER = """\
listen:
  -
    port: 5280
    ip: "{ip}"
    module: ejabberd_http
    request_handlers:
      /http-bind: mod_bosh
      /xmpp-websocket: ejabberd_http_ws
  -
    port: 5348
    ip: "{ip}"
    module: ejabberd_service
    global_routes: false
    hosts:
      {fake}:
        password: "{secret}"
      {stranger}:
        password: "{secret}"
      {honest}:
        password: "{secret}"
"""


class Ejabberd(Server):
    """ejabberd with mod_mix as channel service, and with the tap unless told otherwise."""

    schedulers: tuple[str, ...] = ("+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none")
    """Many servers share the machine: none busy-waits."""

    def argv(self) -> list[str]:
        """Return the command, as the machine sees it."""
        # No node name: several instances need no epmd, and nobody can attach.
        return [
            "erl", "-noinput", *self.schedulers, "+S", "2:2",
            "-mnesia", "dir", f'"{self.inside("mnesia")}"',
            "-pa", self.inside("tap"),
            "-s", "ejabberd",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Return the process's environment."""
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": self.inside(""),
            "LANG": "C.UTF-8",
            "ERL_LIBS": "/usr/lib/x86_64-linux-gnu",
            "ERL_INETRC": self.inside("inetrc"),
            "ERL_CRASH_DUMP_BYTES": "0",
            "EJABBERD_CONFIG_PATH": self.inside("ejabberd.yml"),
        }

    def hosts(self) -> Path:
        """Return the names of this run: ejabberd asks the C library for addresses."""
        return self.folder / "hosts"

    def ports(self) -> list[int]:
        """Return the ports that answer when the server is ready."""
        return [5222, 5269, 5280, 5347, 5348] if self.tap else [5222, 5269]

    def component_port(self, jid: str) -> int:
        """Return the port where the component `jid` connects."""
        return 5347 if jid == self.component else 5348

    @property
    def mix(self) -> str:
        """Return the address of the MIX service."""
        return f"mix.{self.domain}"

    async def start(self) -> "Server":
        """Compile the tap, start the server and return when all its ports answer."""
        if self.tap:
            await self.compile(*self._sources())
        return await super().start()

    async def compile(self, *sources: Path) -> None:
        """Compile modules for this server, with the compiler of its own machine.

        An older Erlang cannot load modules compiled by a newer one.
        """
        for name in ("src", "tap"):
            (self.folder / name).mkdir(exist_ok=True)
        copies = [Path(shutil.copy(source, self.folder / "src")) for source in sources]
        child = await asyncio.create_subprocess_exec(
            *self.machine.command(
                "erlc",
                *self.machine.headers(),
                *("-o", self.inside("tap")),
                *map(self.machine.inside, copies),
            ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await child.communicate()
        assert child.returncode == 0, f"erlc:\n{output.decode()}"

    def _sources(self) -> list[Path]:
        return sorted((self.tree / "deploy/ejabberd/src").glob("*.erl"))

    def write(self) -> None:
        """Write configuration and name resolution into the folder."""
        (self.folder / "hosts").write_text(self.block.hosts(), encoding="utf-8")
        (self.folder / "inetrc").write_text(
            # No name server: a lookup of SRV records fails at once and sends nothing.
            '{resolv_conf, ""}.\n{lookup, [file]}.\n',
            encoding="utf-8",
        )
        text = self._with_tap() if self.tap else self._mix_only()
        Path(self.folder / "ejabberd.yml").write_text(text, encoding="utf-8")

    def _mix_only(self) -> str:
        return MIX_ONLY.format(domain=self.domain, ip=self.place.ip)

    def _with_tap(self) -> str:
        listener = EXTRA_LISTENER.format(
            ip=self.place.ip,
            fake=self.fake,
            stranger=self.stranger,
            honest=self.honest,
            secret=SECRET,
        )
        return replaced(
            example("ejabberd/ejabberd.yml", self.tree),
            {
                'certfiles:\n  - "/etc/ejabberd/certs/*.pem"\n': "s2s_max_retry_delay: 1\n",
                "loglevel: info": f"loglevel: {'debug' if DEBUG else 'info'}",
                "s2s_use_starttls: optional": "s2s_use_starttls: false",
                "auth_password_format: scram": "auth_password_format: plain",
                "    starttls_required: true\n": "",
                '"127.0.0.1"': f'"{self.place.ip}"',
                "mixpam.example.org": self.component,
                "- example.org": f"- {self.domain}",
                EXAMPLE_SECRET: SECRET,
                "listen:\n": listener,
                "modules:\n": f"modules:\n  mod_bosh: {{}}\n  mod_mix:\n    host: {self.mix}\n",
                "ip_access: local_registration": "ip_access: all",
            },
        )
