"""The command line. Importing it costs no torch, so that `automatch --help` answers at once."""

from automatch.cli.app import main

__all__ = ["main"]
