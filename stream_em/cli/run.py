"""`stream-em run`: learn from a stream."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_em.cli.shell import chosen_file, shell

if TYPE_CHECKING:
    from stream_em.config import Plan
    from stream_em.config.layers import Override


@click.command("run", short_help="Learn from a stream, as a configuration says.")
@click.argument("file", type=click.Path(path_type=Path), required=False, metavar="[CONFIG]")
@click.option(
    "-c", "--config", "named", type=click.Path(path_type=Path), help="The same as CONFIG."
)
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Override a value.")
@click.option(
    "--from",
    "start",
    metavar="WORD",
    help="Where a fresh run begins: earliest, latest, committed, or an ISO time.",
)
@click.option("--until-end", is_flag=True, help="Stop at the end as it is now; do not follow.")
@click.option("--max-events", type=click.IntRange(min=1), help="Stop before more than N rows.")
@click.option("--dry-run", is_flag=True, help="Read one batch, learn one step, write nothing.")
@click.option(
    "--fresh", is_flag=True, help="Start anew: delete checkpoints, cut files; topics keep theirs."
)
@click.option("--overwrite", is_flag=True, help="Let a first run cut outputs that are not empty.")
@click.option(
    "--continue",
    "continue_input",
    is_flag=True,
    help="Go on from a checkpoint although the input, such as stdin, has no positions.",
)
@click.option(
    "--accept-source-change", is_flag=True, help="Go on although the source is another one."
)
@click.option(
    "--take-over",
    is_flag=True,
    help="Displace an engine that holds the checkpoints but may be frozen; only where all "
    "outputs are transactional.",
)
@click.option(
    "--trust-checkpoint",
    is_flag=True,
    help="Go on from the newest checkpoint although no transaction vouches for it.",
)
@click.option("--no-progress", is_flag=True, help="Show no progress.")
@click.option("--summary-json", metavar="PATH", help='Write the summary; "-" is stdout.')
@shell
def command(
    file: Path | None,
    named: Path | None,
    settings: tuple[str, ...],
    start: str | None,
    until_end: bool,
    dry_run: bool,
    no_progress: bool,
    **rest: Any,
) -> None:
    """Learn from a stream as the CONFIG says: read, cluster, write, checkpoint.

    The first SIGTERM or SIGINT finishes the batch, saves and exits with 0; a second one
    exits at once. Started again, it goes on where the last checkpoint is.
    """
    from stream_em.cli.running import Options, execute
    from stream_em.cli.signals import Stop, handled
    from stream_em.config import load

    stop = Stop()
    with handled(stop):
        path = chosen_file(named, file)
        flags = _flags(path, settings, start, until_end)
        plan = load(path, settings, os.environ, flags)
        if start is not None:
            _refuse_start(plan, rest["fresh"])
        if dry_run:
            from stream_em.cli.rehearsal import rehearse

            rehearse(plan, rest["fresh"], rest["accept_source_change"])
            return
        execute(plan, Options(progress=not no_progress, **rest), stop)


def _flags(
    path: Path, settings: tuple[str, ...], start: str | None, until_end: bool
) -> list["Override"]:
    """`--from` and `--until-end` as settings of a source that knows such."""
    from stream_em.config import merged
    from stream_em.config.layers import Override

    if start is None and not until_end:
        return []
    known = _source_keys(merged(path, settings, os.environ))
    flags = []
    if start is not None and _start_given(start, known):
        flags.append(Override(("source", "start"), start, "--from"))
    if until_end and "until_end" in known:
        flags.append(Override(("source", "until_end"), True, "--until-end"))
    elif until_end and "follow" in known:
        flags.append(Override(("source", "follow"), False, "--until-end"))
    return flags


def _source_keys(tree: dict[str, Any]) -> frozenset[str]:
    """The keywords of the configured source; none when it is not known."""
    import inspect

    from stream_em.config.layers import plain
    from stream_em.errors import SettingsError
    from stream_em.registry import resolve

    table = plain(tree.get("source", {}))
    kind = table.get("kind", "") if isinstance(table, dict) else table
    try:
        return frozenset(inspect.signature(resolve("sources", kind)).parameters)
    except SettingsError:
        return frozenset()


def _start_given(start: str, known: frozenset[str]) -> bool:
    """Whether the source can be told where to start. Raises for words it cannot take."""
    from datetime import datetime

    if start not in ("earliest", "latest", "committed"):
        try:
            datetime.fromisoformat(start)
        except ValueError:
            raise click.BadParameter(
                f"{start!r} is neither earliest, latest, committed nor an ISO time such as "
                "2026-01-31T12:00:00Z",
                param_hint="--from",
            ) from None
    if "start" in known:
        return True
    if start != "earliest":
        raise click.BadParameter(
            f"this source is always read from its beginning, so {start!r} cannot be; "
            "leave it out, or say earliest",
            param_hint="--from",
        )
    return False


def _refuse_start(plan: "Plan", fresh: bool) -> None:
    from stream_em.errors import SettingsError

    if not fresh and plan.store is not None and plan.store.names():
        raise SettingsError(
            "--from is for fresh runs, but there is a checkpoint already "
            f"({plan.store.names()[-1]}); leave --from out to go on from it, or add --fresh "
            "to start anew"
        )
