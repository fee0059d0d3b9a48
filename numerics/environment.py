"""What a manifest says about the program that made a run."""

import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["environment"]


def environment() -> dict[str, Any]:
    """Return versions, git revision (None outside a checkout) and command of this program, for a manifest."""
    versions = {"python": sys.version.split()[0]}
    for package in ("central-flow-workbench", "torch", "numpy", "scipy", "cvxpy", "clarabel", "h5py", "sympy"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {"versions": versions, "git_revision": _git_revision(), "command": sys.argv}


def _git_revision() -> str | None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # an installed copy must not report the revision of the user's own repository
        return None
    command = ["git", "-C", str(root), "rev-parse", "--verify", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
