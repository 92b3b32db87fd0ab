#!/usr/bin/env python3
"""Pin the image's dependencies, with hashes, from what `setup.cfg` allows.

Run `python deploy/image/lock.py` to take the newest versions; needs uv. Only the files
that the image can use are named: CPython 3.12, Linux with glibc, x86_64 and aarch64.
Sources are named where a package has no wheel.
"""

import configparser
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD = ("setuptools", "wheel")
USABLE = re.compile(
    r"-(cp312-cp312|cp3\d+-abi3|py3-none|py2\.py3-none)-"
    r"(any|(manylinux\S*_(x86_64|aarch64)))\.whl$"
)


def wanted() -> list[str]:
    """Return the requirements of `setup.cfg`."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(HERE.parents[1] / "setup.cfg")
    lines = parser["options"]["install_requires"].splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def resolve(requirements: list[str]) -> list[dict[str, Any]]:
    """Have uv choose versions; return the packages of its lock."""
    found = subprocess.run(
        ["uv", "pip", "compile", "--quiet", "--no-config", "--python-version", "3.12",  # noqa: S607
         "--python-platform", "linux", "--format", "pylock.toml", "-"],
        input="\n".join(requirements), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    packages: list[dict[str, Any]] = tomllib.loads(found)["packages"]
    return packages


def pin(package: dict[str, Any]) -> str:
    """Write one package as pip's requirements file has it. Raises KeyError without a file."""
    files = [
        wheel
        for wheel in package.get("wheels", [])
        if USABLE.search(wheel["url"]) and "musllinux" not in wheel["url"]
    ] or [package["sdist"]]
    hashes = sorted({file["hashes"]["sha256"] for file in files})
    lines = [f"{package['name']}=={package['version']}", *(f"--hash=sha256:{h}" for h in hashes)]
    return " \\\n    ".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    for name, requirements in (("build.txt", list(BUILD)), ("requirements.txt", wanted())):
        head = "# Made by lock.py from setup.cfg. Run it again to take newer versions.\n"
        (HERE / name).write_text(head + "".join(map(pin, resolve(requirements))), encoding="utf-8")


if __name__ == "__main__":
    main()
