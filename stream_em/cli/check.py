"""`stream-em check`: everything that is wrong with a configuration, at once."""

import os
from pathlib import Path

import click

from stream_em.cli.shell import say, say_json, shell


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path), metavar="CONFIG")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Override a value.")
@click.option("--deny-warnings", is_flag=True, help="Count warnings as findings.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@shell
def command(file: Path, settings: tuple[str, ...], deny_warnings: bool, as_json: bool) -> None:
    """Check a configuration without opening anything.

    Exit code 0: clean. 1: findings. 2: the file cannot be read.
    """
    from stream_em.config import examine, merged

    findings = examine(merged(file, settings, os.environ)).findings
    if as_json:
        say_json({"config": str(file), "findings": [f._asdict() for f in findings]})
    else:
        for finding in findings:
            say(f"{finding.origin}: {finding.severity}: {finding.message}")
        if not findings:
            say(f"{file}: no findings")
    if any(deny_warnings or finding.severity == "error" for finding in findings):
        raise click.exceptions.Exit(1)
