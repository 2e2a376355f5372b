"""`stream-em check`: everything that is wrong with a configuration, at once."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_em.cli.shell import say, say_json, shell

if TYPE_CHECKING:
    from stream_em.cli.online import Tried
    from stream_em.config.plan import Examination, Finding

FINDINGS, NOBODY_THERE = 1, 3  # exit codes


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path), metavar="CONFIG")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Override a value.")
@click.option(
    "--online", is_flag=True, help="Try inputs, outputs and folders, too; touch none of them."
)
@click.option("--deny-warnings", is_flag=True, help="Count warnings as findings.")
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
@shell
def command(
    file: Path, settings: tuple[str, ...], online: bool, deny_warnings: bool, as_json: bool
) -> None:
    """Check a configuration; without --online, nothing is opened.

    With --online brokers, topics, permissions, files and folders are tried without joining,
    committing, locking or writing anything, so that a running engine is not disturbed.

    Exit code 0: clean. 1: findings. 2: the file cannot be read. 3: an input or output
    cannot be reached.
    """
    from stream_em.config import examine, merged

    examined = examine(merged(file, settings, os.environ))
    probes = _tried(examined) if online else []
    findings = [*examined.findings, *_problems(probes)]
    if as_json:
        _say_as_json(file, findings, probes if online else None)
    else:
        _say_as_text(file, examined.findings, probes)
    if any(not probe.reached for probe in probes):
        raise click.exceptions.Exit(NOBODY_THERE)
    if any(deny_warnings or finding.severity == "error" for finding in findings):
        raise click.exceptions.Exit(FINDINGS)


def _tried(examined: "Examination") -> list["Tried"]:
    """What a run would meet; nothing where no run could begin."""
    from stream_em.cli.online import tried
    from stream_em.config.layers import plain
    from stream_em.config.masks import without_secrets

    if examined.plan is None:
        return []
    tree = plain(examined.tree)
    return [
        probe._replace(problem=probe.problem and without_secrets(probe.problem, tree))
        for probe in tried(examined.plan)
    ]


def _problems(probes: Sequence["Tried"]) -> list["Finding"]:
    from stream_em.config.plan import Finding

    return [
        Finding("error", probe.where, f"{probe.what}: {probe.problem}")
        for probe in probes
        if probe.problem is not None
    ]


def _say_as_text(file: Path, findings: Sequence["Finding"], probes: Sequence["Tried"]) -> None:
    for finding in findings:
        say(f"{finding.origin}: {finding.severity}: {finding.message}")
    for probe in probes:
        told = ("ok", probe.detail) if probe.problem is None else ("error", probe.problem)
        say(": ".join(word for word in (probe.where, told[0], probe.what, told[1]) if word))
    if not findings and all(probe.problem is None for probe in probes):
        say(f"{file}: no findings")


def _say_as_json(
    file: Path, findings: Sequence["Finding"], probes: Sequence["Tried"] | None
) -> None:
    told = {"config": str(file), "findings": [finding._asdict() for finding in findings]}
    if probes is not None:
        told["probes"] = [probe._asdict() for probe in probes]
    say_json(told)
