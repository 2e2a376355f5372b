"""From settings to an opened stream."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing

from stream_em.errors import SettingsError, Unreachable
from stream_em.streams import Positions, Probe, Stream
from stream_em_connectors.files.feeds import Feed, FiniteFiles
from stream_em_connectors.files.following import FollowedFiles
from stream_em_connectors.files.paths import matched
from stream_em_connectors.files.readers import Opener
from stream_em_connectors.files.settings import STANDARD_INPUT, FileSettings, fields_of
from stream_em_connectors.files.standard_input import StandardInput, first_bytes
from stream_em_connectors.files.stream import FileStream
from stream_em_connectors.files.text_format import TextFormat, first_byte
from stream_em_connectors.files.text_opener import TextOpener, chosen, picked


def text_stream(source: FileSettings, text: TextFormat, positions: Positions | None) -> FileStream:
    """Open a source of text files, or standard input."""
    if source.path == STANDARD_INPUT:
        return _standard_input(source, text, positions)
    return file_stream(
        source, lambda paths: TextOpener(text, chosen(source, text, paths)), positions
    )


def file_stream(
    source: FileSettings,
    opener_for: Callable[[tuple[str, ...]], Opener],
    positions: Positions | None,
) -> FileStream:
    """Open a source of files. Raises `Unreachable`, `SettingsError` or `SourceChanged`."""
    paths = matched(source.path)
    opener = opener_for(paths)
    latest, wait = source.start == "latest", source.max_wait_ms / 1000
    feed: Feed
    if source.follow:
        feed = FollowedFiles(opener, source.path, positions, latest, wait)
    else:
        feed = FiniteFiles(opener, paths, positions, latest)
    return FileStream(feed, opener.fields, source.batch_size, wait if source.follow else None)


def file_probes(
    source: FileSettings, opened_at: Callable[[Positions | None], Stream]
) -> Iterator[Probe]:
    """Whether the files are there and can be read, and what their rows are made of."""
    if source.path == STANDARD_INPUT:
        yield Probe("standard input", None)
        return
    files = f"input {source.path}"
    try:
        paths = matched(source.path)
    except Unreachable as error:
        yield Probe(files, str(error))
        return
    closed = [path for path in paths if not os.access(path, os.R_OK)]
    if closed:
        yield Probe(files, f"{closed[0]} may not be read; change its permissions, or the path")
        return
    yield Probe(files, None, f"{len(paths)} file{'s' * (len(paths) != 1)}")
    yield _features(source.path, opened_at)


def _features(path: str, opened_at: Callable[[Positions | None], Stream]) -> Probe:
    """Opening is harmless here: files are neither locked nor changed."""
    what = f"features of {path}"
    try:
        with closing(opened_at(None)) as stream:
            return Probe(what, None, ", ".join(stream.features))
    except (Unreachable, SettingsError) as error:
        return Probe(what, str(error))


def _standard_input(
    source: FileSettings, text: TextFormat, positions: Positions | None
) -> FileStream:
    first, features = b"", source.features
    if features is None:
        first = first_bytes(text)
        found = text.numeric(first, first_byte(first, True) or 0, True)
        features = () if found is None else picked(source, "standard input", *found)
    fields = fields_of(source, features)
    feed = StandardInput(text, fields, first, positions)
    patience = source.max_wait_ms / 1000 if source.follow else None
    return FileStream(feed, fields, source.batch_size, patience)
