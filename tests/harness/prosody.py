"""Private Prosody instances, configured by the example shipped to operators."""

import os
import shutil
from pathlib import Path

from harness.component import SECRET
from harness.examples import SECRET as EXAMPLE_SECRET
from harness.examples import example, replaced
from harness.server import DEBUG, Server


class Prosody(Server):
    """Prosody with the tap and in-band registration."""

    def argv(self) -> list[str]:
        """Return the command, as the machine sees it."""
        return ["prosody", "-F", "--config", self.inside("prosody.cfg.lua")]

    def environment(self) -> dict[str, str]:
        """Return the process's environment."""
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": self.inside("")}

    def ports(self) -> list[int]:
        """Return the ports that answer when the server is ready."""
        return [5222, 5269, 5280, 5347]

    def write(self) -> None:
        """Write configuration and modules into the folder."""
        for name in ("data", "modules", "tests"):
            (self.folder / name).mkdir(exist_ok=True)
        for module in (self.tree / "deploy/prosody").glob("*.lua"):
            if module.name.startswith("mod_"):
                shutil.copy(module, self.folder / "modules")
        for module in (Path(__file__).parent / "lua").glob("mod_*.lua"):
            shutil.copy(module, self.folder / "tests")
        config = replaced(
            example("prosody/prosody.cfg.lua", self.tree),
            {
                "/usr/local/lib/prosody/modules": self.inside("modules")
                + f'"; "{self.inside("tests")}',
                "/var/lib/prosody": self.inside("data"),
                "/run/prosody/prosody.pid": self.inside("prosody.pid"),
                'log = { info = "*console" }': 'log = { debug = "*console" }'
                if DEBUG
                else 'log = { info = "*console" }',
                "127.0.0.1": self.place.ip,
                "c2s_require_encryption = true": "c2s_require_encryption = false",
                "s2s_require_encryption = true": "s2s_require_encryption = false",
                "allow_unencrypted_plain_auth = false": "allow_unencrypted_plain_auth = true",
                "mixpam.example.org": self.component,
                '"example.org"': f'"{self.domain}"',
                EXAMPLE_SECRET: SECRET,
                'authentication = "internal_hashed"': 'authentication = "internal_plain"',
                "modules_enabled = {": "modules_enabled = {"
                ' "register_ibr"; "user_account_management"; "private_names"; "test_tap";'
                ' "bosh"; "websocket";',
                'VirtualHost "': self._extras() + 'VirtualHost "',
            },
        )
        for peer in (self.fake, self.stranger, self.honest):
            config += f'\nComponent "{peer}"\n\tcomponent_secret = "{SECRET}"\n'
        (self.folder / "prosody.cfg.lua").write_text(config, encoding="utf-8")

    def _extras(self) -> str:
        """Return global options that only tests need."""
        return (
            "run_as_root = true\n"
            "use_ipv6 = false\n"
            f'http_interfaces = {{ "{self.place.ip}" }}\n'
            "http_ports = { 5280 }\nhttps_ports = {}\n"
            "allow_registration = true\n"
            "smacks_hibernation_time = 5\n"
            f'private_names = "{self._hosts()}"\n\n'
        )

    def _hosts(self) -> str:
        """Write the file of all instances' names, and return its path as the server sees it."""
        (self.folder / "hosts").write_text(self.block.hosts(), encoding="utf-8")
        return self.inside("hosts")
