"""From settings to an opened stream."""

from collections.abc import Callable

from stream_em.streams import Positions
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
