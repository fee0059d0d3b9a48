"""The command line: `centralflow COMMAND …`."""

from derivations.cli.main import main

__all__ = ["main"]
