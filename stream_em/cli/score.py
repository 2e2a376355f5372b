"""`stream-em score`: rows in, assignments out; nothing is learned and no lock is taken."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_em.cli.shell import shell

if TYPE_CHECKING:
    from stream_em.cli.saved import Saved
    from stream_em.streams import Source

log = logging.getLogger(__name__)


@click.command("score", short_help="Assign rows to the clusters of a checkpoint.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="Read as this configuration's [source] does; FILE, when given, takes its path's place.",
)
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Override a value.")
@shell
def command(
    checkpoint: Path, file: Path | None, config: Path | None, settings: tuple[str, ...]
) -> None:
    """Assign the rows of FILE to the clusters of a CHECKPOINT, or of a folder's newest one.

    Writes one JSON line for each row to stdout, as `run` would. What grows is read up to
    its end as it is at the start: topics, and files that are followed.
    """
    from stream_em.cli.inputs import as_it_is, source_of
    from stream_em.cli.saved import saved

    if file is None and config is None:
        raise click.UsageError("nothing to score; give a FILE, or -c CONFIG to read its source")
    found = saved(checkpoint)
    _score(found, as_it_is(source_of(found, file, config, settings)))


def _score(found: "Saved", source: "Source") -> None:
    import stream_em as se
    from stream_em.engine.pending import output_columns
    from stream_em.registry import resolve

    model, state = found.checkpoint.model, found.checkpoint.state
    sink, stream = resolve("sinks", "stdout")(), source.opened_at(None)
    scored = rejected = 0
    try:
        sink.begin(found.checkpoint.incarnation, False)
        while not stream.ended:
            batch = stream.poll(1.0)
            if batch is None:
                continue
            rejected += len(batch.rejected)
            if len(batch.rows):
                scores: Any = se.score(model, state, batch.rows)
                sink.write(output_columns(batch.origins, scores))
                scored += len(batch.rows)
        sink.barrier(0)
    finally:
        stream.close()
        sink.close()
    log.info("scored %d rows with %s; %d records rejected", scored, found.path, rejected)
