"""`stream-em config show`: the configuration as it is, or as it takes effect."""

import os
from pathlib import Path

import click

from stream_em.cli.shell import chosen_file, shell


@click.group("config")
def command() -> None:
    """Look at a configuration."""


@command.command("show")
@click.argument("file", type=click.Path(path_type=Path), required=False, metavar="[CONFIG]")
@click.option(
    "-c", "--config", "named", type=click.Path(path_type=Path), help="The same as CONFIG."
)
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Override a value.")
@click.option("--resolved", is_flag=True, help="Every effective value, and who set it.")
@shell
def show(file: Path | None, named: Path | None, settings: tuple[str, ...], resolved: bool) -> None:
    """Print a configuration after environment and --set, secrets masked."""
    from stream_em.config import load, merged
    from stream_em.config.show import as_merged, as_resolved

    path = chosen_file(named, file)
    tree = merged(path, settings, os.environ)
    text = as_resolved(tree, load(path, settings, os.environ)) if resolved else as_merged(tree)
    click.echo(text, nl=False)
