"""`stream-em demo`: real events through a mixture, without any file, network or server."""

import tempfile
from pathlib import Path

import click

from stream_em.cli.shell import say, shell

CONFIG = """\
# Written by `stream-em demo`: 49,097 readings of a space shuttle's radiators.
# Again from the start:  stream-em run -c {file} --fresh

[engine]
name = "demo"
seed = 7

[source]
kind = "csv"
path = {data}
features = ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"]
batch_size = 1000

[model]
kind = "gaussian-mixture"
n_components = 8
covariance = "full"
scaling = "standardise"

[[sinks]]
kind = "jsonl"
path = {assignments}

[checkpoints]
directory = {checkpoints}
every_events = 10_000

[http]
address = "off"
"""


@click.command("demo")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where to make the demo's folder; default: here.",
)
@click.option("--no-progress", is_flag=True, help="Show no progress.")
@shell
def command(directory: Path, no_progress: bool) -> None:
    """Stream 49,097 real events through a Gaussian mixture.

    Makes a new folder with the configuration, the assignments and the checkpoints.
    """
    import stream_em as se
    from stream_em.cli.running import Options, execute, quality_in_words
    from stream_em.cli.saved import saved
    from stream_em.cli.tables import cluster_table
    from stream_em.config import load

    folder = _new_folder(directory)
    file = _written(folder)
    say(f"writing to {folder}")
    summary = execute(load(file), Options(progress=not no_progress, log_seconds=1.0))
    checkpoint = saved(folder / "checkpoints").checkpoint
    found = se.clusters(checkpoint.model, checkpoint.state)
    say(f"{summary.events:,} events in {summary.seconds:.1f} s; the clusters, heaviest first:\n")
    say(cluster_table(found, checkpoint.state.features))
    say(f"\n{', '.join(quality_in_words(summary))}")
    say(_next_steps(folder, file))


def _new_folder(directory: Path) -> Path:
    from stream_em.errors import Unreachable

    try:
        directory.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="stream-em-demo-", dir=directory)).resolve()
    except OSError as error:
        raise Unreachable(
            f"no folder can be made in {directory} ({error}); give another: --directory DIR"
        ) from None


def _written(folder: Path) -> Path:
    """The configuration of the demo, written into its folder."""
    from stream_em.config import toml

    file = folder / "demo.toml"
    text = CONFIG.format(
        file=file,
        data=toml.value(str(shuttle())),
        assignments=toml.value(str(folder / "assignments.jsonl")),
        checkpoints=toml.value(str(folder / "checkpoints")),
    )
    file.write_text(text, encoding="utf-8")
    return file


def shuttle() -> Path:
    """The shuttle data inside River's wheel, found without importing River."""
    from importlib.util import find_spec

    from stream_em.errors import Unreachable

    spec = find_spec("river")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / "datasets" / "shuttle.csv.gz"
        if path.is_file():
            return path
    raise Unreachable(
        "River's shuttle data is not installed; reinstall it with: pip install --force river"
    )


def _next_steps(folder: Path, file: Path) -> str:
    return f"""
What to try next:
  head -n 3 {folder / "assignments.jsonl"}
  stream-em inspect {folder / "checkpoints"}
  stream-em config show --resolved {file}
  stream-em run -c {file} --fresh --set model.n_components=16
  stream-em init YOUR.csv > stream-em.toml && stream-em run -c stream-em.toml"""
