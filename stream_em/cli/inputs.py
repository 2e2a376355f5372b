"""Rows to look at with a saved model: from a file as it looks, or as a configuration reads it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_em.cli.saved import Saved
    from stream_em.streams import Source


def source_of(
    found: "Saved", file: Path | None, config: Path | None, settings: tuple[str, ...]
) -> "Source":
    """The source of a FILE, of a configuration, or of a configuration with FILE as its path.

    Raises `SettingsError` or `Unreachable` where no source can be made of them.
    """
    if config is not None:
        return _configured(config, file, settings)
    assert file is not None
    return _sniffed(file, found)


def _configured(config: Path, file: Path | None, settings: tuple[str, ...]) -> "Source":
    from stream_em.config import load
    from stream_em.config.layers import Override

    flags = [] if file is None else [Override(("source", "path"), str(file), "FILE")]
    return load(config, settings, os.environ, flags).source


def _sniffed(file: Path, found: "Saved") -> "Source":
    from stream_em.cli.sniff import sniff
    from stream_em.models.kinds import call
    from stream_em.registry import resolve

    looks = sniff(file)
    known = found.checkpoint.state.features
    features = looks.named("feature") if known is None else list(known)
    table = {"path": str(file), **looks.settings, "features": features}
    source: Source = call(resolve("sources", looks.kind), table, "source")
    return source


def as_it_is(source: "Source") -> "Source":
    """The source as far as it goes now: it is not followed."""
    from dataclasses import fields, replace

    values: Any = source
    ends = {"follow": False, "until_end": True}
    known = {field.name for field in fields(values) if field.init}
    finite: Source = replace(values, **{k: v for k, v in ends.items() if k in known})
    return finite
