"""`stream-em inspect`: what a checkpoint holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_em.cli.shell import say, say_json, shell

if TYPE_CHECKING:
    from stream_em.cli.saved import Saved
    from stream_em.kcurve import KCurve


@click.command("inspect", short_help="Show what a checkpoint holds.")
@click.argument("path", type=click.Path(path_type=Path), metavar="CHECKPOINT")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@click.option(
    "--k-curve",
    "data",
    type=click.Path(path_type=Path),
    metavar="DATA",
    help="How many clusters: merge them one by one, and score each K on these held-out rows.",
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help="Read DATA as this configuration's [source] does.",
)
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Override a value.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="PATH", help="Draw the curve.")
@shell
def command(
    path: Path,
    as_json: bool,
    data: Path | None,
    config: Path | None,
    settings: tuple[str, ...],
    svg: Path | None,
) -> None:
    """Show the clusters, model and positions of a CHECKPOINT, or of a folder's newest one."""
    from stream_em.cli.saved import saved

    if data is None and (config is not None or settings or svg is not None):
        raise click.UsageError("--config, --set and --svg are for --k-curve DATA; add it")
    found = saved(path)
    curve = None
    if data is not None:
        from stream_em.cli import curve as curves

        curve = curves.curve_of(found, data, config, settings)
        if svg is not None:
            curves.draw(curve, svg)
    if as_json:
        say_json(_facts(found, curve))
    elif curve is not None:
        say(f"checkpoint   {found.path} (number {found.checkpoint.number})")
        say(curves.verdict(curve))
        say("")
        say(curves.picture(curve))
    else:
        _show(found)


def _facts(found: "Saved", curve: "KCurve | None") -> dict[str, Any]:
    """All of a checkpoint but its statistics, as JSON values; its curve over K if there is one."""
    import stream_em as se
    from stream_em.cli.logs import finite
    from stream_em.cli.tables import set_aside
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
        **set_aside(checkpoint.model, state)._asdict(),
        "clusters": {name: getattr(clusters, name).tolist() for name in arrays},
        "positions": dict(checkpoint.positions.parts),
        "extents": dict(checkpoint.extents),
        "settings": dict(checkpoint.settings),
        "versions": dict(checkpoint.versions),
    }
    if curve is not None:
        from stream_em.cli import curve as curves

        facts["k_curve"] = curves.facts(curve)
    strict: dict[str, Any] = finite(facts)
    return strict


def _show(found: "Saved") -> None:
    import stream_em as se
    from stream_em.cli.tables import cluster_table, in_words, set_aside

    checkpoint, state = found.checkpoint, found.checkpoint.state
    say(f"checkpoint   {found.path} (number {checkpoint.number})")
    say(f"model        {in_words(checkpoint.model)}")
    held = f", of which {state.held_rows:,} are held for seeding" if state.held_rows else ""
    say(f"rows         {state.total_events:,} accepted{held}; {checkpoint.rejected:,} rejected")
    say(f"beside       {set_aside(checkpoint.model, state).in_words()}")
    versions = ", ".join(f"{name} {number}" for name, number in checkpoint.versions.items())
    say(f"written by   {versions}")
    for partition, position in checkpoint.positions.parts.items():
        say(f"position     {partition}: {position}")
    say("")
    say(cluster_table(se.clusters(checkpoint.model, state), state.features))
