"""The command line: one file per command; data on stdout, logs and progress on stderr."""

from stream_em.cli.app import main

__all__ = ["main"]
