"""An earlier version of mixpam, taken out of the repository's history."""

import subprocess
from pathlib import Path
from typing import Final

from harness.machines import REPOSITORY

EARLIER: Final = "6b5baf1692e35397c230a693463f6a37feb8e404"
"""The last commit before the core was divided into folders and both taps were rewritten."""

FOLDERS: Final = ("component", "schemas", "deploy")


def history() -> bool:
    """Tell whether this is a checkout, and not an unpacked archive of a release."""
    return (REPOSITORY / ".git").exists()


def unpack(folder: Path, commit: str = EARLIER) -> Path:
    """Extract component and taps of a commit into a folder, and return it.

    Raises LookupError if the checkout is too shallow to have the commit.
    """
    made = subprocess.run(
        ["git", "archive", "--format=tar", commit, *FOLDERS],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        raise LookupError(
            f"{commit} is not here ({made.stderr.decode().strip()}): git fetch --unshallow"
        )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=made.stdout, check=True)
    return folder
