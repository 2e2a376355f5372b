"""`stream-em init`: a configuration to start from, on stdout."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_em.cli.shell import shell

if TYPE_CHECKING:
    from stream_em.cli.sniff import Sniffed

STARTER = """\
# stream-em configuration; check it with: stream-em check FILE
# A table is one constructor call; `stream-em config show --resolved FILE` lists all keys.

[source]
{source}
[model]
kind = "gaussian-mixture"        # or "kmeans" (n_clusters), "soft-kmeans" (n_clusters)
n_components = 8
covariance = "full"              # or "spherical", "diagonal", "tied"
scaling = "standardise"          # features of different units weigh alike; results stay in yours
# forgetting = {{ kind = "half-life", events = 100_000 }}   # follow a stream that drifts

[[sinks]]                        # one assignment for each row
kind = "jsonl"                   # or "parquet", "stdout"
path = "assignments.jsonl"

[checkpoints]                    # a killed run goes on from here; no row lost or counted twice
directory = "checkpoints"
every_events = 100_000
every_seconds = 30

[http]                           # /metrics, /livez, /readyz
address = "127.0.0.1:9464"
"""

PLACEHOLDER = """\
kind = "csv"                     # or "jsonl", "parquet"
path = "data.csv"                # a glob is read in the order of names; "-" is standard input
features = ["x", "y"]            # names of numeric columns
# time = "at"                    # also: weight, key
batch_size = 1000
"""


@click.command("init", short_help="Write a starter configuration to stdout.")
@click.argument("datafile", required=False, type=click.Path(path_type=Path))
@shell
def command(datafile: Path | None) -> None:
    """Write a starter configuration to stdout; with a DATAFILE, one that fits it.

    Example: stream-em init readings.csv > stream-em.toml
    """
    if datafile is None:
        source = PLACEHOLDER
    else:
        from stream_em.cli.sniff import sniff

        source = source_section(sniff(datafile), str(datafile))
    click.echo(STARTER.format(source=source), nl=False)


def source_section(found: "Sniffed", path: str) -> str:
    """The keys of [source] that fit a sniffed file."""
    from stream_em.config import toml
    from stream_em.errors import SettingsError

    features = found.named("feature")
    if not features:
        names = ", ".join(column.name for column in found.columns)
        raise SettingsError(
            f"{path} seems to have no numeric column to learn from (columns: {names}); "
            "begin with plain `stream-em init` and name the features by hand"
        )
    keys = {"kind": found.kind, "path": path, **found.settings, "features": features}
    time = found.named("time")
    if time:
        keys["time"] = time[0]
    keys["batch_size"] = 1000
    lines = [f"{key} = {toml.value(value)}\n" for key, value in keys.items()]
    left = [f"{c.name} ({c.use})" for c in found.columns if c.use not in ("feature", "time")]
    if left:
        lines.append(f"# left out: {', '.join(left)}\n")
    return "".join(lines)
