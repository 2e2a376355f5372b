"""`stream-em inspect`: what a checkpoint holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_em.cli.shell import say, say_json, shell

if TYPE_CHECKING:
    from stream_em.cli.saved import Saved


@click.command("inspect", short_help="Show what a checkpoint holds.")
@click.argument("path", type=click.Path(path_type=Path), metavar="CHECKPOINT")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@shell
def command(path: Path, as_json: bool) -> None:
    """Show the clusters, model and positions of a CHECKPOINT, or of a folder's newest one."""
    from stream_em.cli.saved import saved

    found = saved(path)
    if as_json:
        say_json(_facts(found))
    else:
        _show(found)


def _facts(found: "Saved") -> dict[str, Any]:
    """All of a checkpoint but its statistics, as JSON values."""
    import stream_em as se
    from stream_em.cli.logs import finite
    from stream_em.models.kinds import describe

    path, checkpoint = found
    state = checkpoint.state
    clusters = se.clusters(checkpoint.model, state)
    arrays = ("slots", "uids", "weights", "counts", "means", "covariances")
    facts = {
        "path": str(path),
        "number": checkpoint.number,
        "incarnation": checkpoint.incarnation,
        "model": describe(checkpoint.model),
        "seed": state.seed,
        "features": None if state.features is None else list(state.features),
        "total_events": int(state.total_events),
        "rejected": checkpoint.rejected,
        "held_rows": int(state.held_rows),
        "time": state.time,
        "clusters": {name: getattr(clusters, name).tolist() for name in arrays},
        "positions": dict(checkpoint.positions.parts),
        "extents": dict(checkpoint.extents),
        "settings": dict(checkpoint.settings),
        "versions": dict(checkpoint.versions),
    }
    strict: dict[str, Any] = finite(facts)
    return strict


def _show(found: "Saved") -> None:
    import stream_em as se
    from stream_em.cli.tables import cluster_table, in_words

    checkpoint, state = found.checkpoint, found.checkpoint.state
    say(f"checkpoint   {found.path} (number {checkpoint.number})")
    say(f"model        {in_words(checkpoint.model)}")
    held = f", of which {state.held_rows:,} are held for seeding" if state.held_rows else ""
    say(f"rows         {state.total_events:,} accepted{held}; {checkpoint.rejected:,} rejected")
    versions = ", ".join(f"{name} {number}" for name, number in checkpoint.versions.items())
    say(f"written by   {versions}")
    for partition, position in checkpoint.positions.parts.items():
        say(f"position     {partition}: {position}")
    say("")
    say(cluster_table(se.clusters(checkpoint.model, state), state.features))
