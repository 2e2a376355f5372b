"""Opening files of text records, at their beginning or behind a saved position."""

import logging
import os
from typing import final

import numpy as np

from stream_em.errors import SettingsError, SourceFailed, Unreachable
from stream_em.streams import Json
from stream_em_connectors.codecs import Fields
from stream_em_connectors.files.inputs import TAIL, ByteInput, opened
from stream_em_connectors.files.marks import FileMarks, Window, head_differs, tail_differs
from stream_em_connectors.files.readers import Opener
from stream_em_connectors.files.settings import COMPRESSED, FileSettings, fields_of
from stream_em_connectors.files.text_format import TextFormat, first_byte
from stream_em_connectors.files.text_reader import BLOCK, TextReader, changed

log = logging.getLogger(__name__)


@final
class TextOpener(Opener):
    """Opens files of one text format."""

    def __init__(self, text: TextFormat, fields: Fields) -> None:
        self._format = text
        self.fields = fields

    def opened(self, path: str, source: str, mark: Json, grows: bool) -> TextReader:
        """Open a file; a compressed one is taken as whole even where others grow."""
        data = opened(path)
        try:
            problem = None if mark is None else head_differs(mark, data)
            if problem is not None:
                raise changed(source, problem)
            grows = grows and not path.endswith(COMPRESSED)
            marks = FileMarks(data)
            reader = TextReader(source, data, self._format, self.fields, marks, grows)
            reader.begin()
            if mark is not None:
                reader.resume(mark)
        except SourceFailed as error:
            data.close()
            raise Unreachable(str(error)) from error
        except BaseException:
            data.close()
            raise
        return reader

    def ready(self, path: str) -> bool:
        """Always: text can be read while it is written."""
        return True

    def end(self, path: str, over: bool) -> Json:
        """The end of the last line, found from behind. Raises `SettingsError` if compressed."""
        if path.endswith(COMPRESSED):
            raise SettingsError(
                f'start = "latest" with {path}: the end of a compressed file is not known before '
                'it is read; use start = "earliest"'
            )
        reader, data = self.opened(path, path, None, True), opened(path)
        try:
            place = os.fstat(data.fileno).st_size if over else _last_line_end(data)
            if place <= int(reader.mark()["offset"]):
                return reader.mark()
            window = Window(place, b"", data.jump(place))
            return FileMarks(data).within(window, np.empty(0), 0)(place)
        finally:
            data.close()
            reader.close()

    def verify(self, path: str, mark: Json) -> None:
        """Head, end and length of a file that was read; a compressed one by its head alone."""
        data = opened(path)
        try:
            problem = head_differs(mark, data)
            if problem is None and not path.endswith(COMPRESSED):
                problem = tail_differs(mark, data.jump(int(mark["offset"])))
                if problem is None and data.read(TAIL).strip(b"\r\n"):
                    problem = "it grew after it had been read to its end"
        finally:
            data.close()
        if problem is not None:
            raise changed(path, problem)


def _last_line_end(data: ByteInput) -> int:
    """Place behind the last newline."""
    end = os.fstat(data.fileno).st_size
    while end > 0:
        begin = max(0, end - BLOCK)
        found = os.pread(data.fileno, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def chosen(source: FileSettings, text: TextFormat, paths: tuple[str, ...]) -> Fields:
    """The fields of a source; without `features` every numeric one of the first records."""
    features = source.features
    if features is None:
        features = _numeric(source, text, paths)
    return fields_of(source, features)


def _numeric(source: FileSettings, text: TextFormat, paths: tuple[str, ...]) -> tuple[str, ...]:
    for path in paths:
        found = text.numeric(*_beginning(path))
        if found is not None:
            return picked(source, path, *found)
    if source.follow:
        raise SettingsError(
            f"features are not given and {source.path} has no rows yet to choose them from; "
            "name them in `features`"
        )
    return ()


def picked(
    source: FileSettings, path: str, numeric: tuple[str, ...], others: tuple[str, ...]
) -> tuple[str, ...]:
    """The numeric columns that have no other use; tells the log which. Raises `SettingsError`."""
    used = {source.weight, source.time, source.key}
    features = tuple(name for name in numeric if name not in used)
    if not features:
        raise SettingsError(
            f"no numeric column found in the first records of {path}, "
            f"columns are: {', '.join((*numeric, *others)) or 'none'}; name some in `features`"
        )
    left = [name for name in (*numeric, *others) if name not in features]
    log.info(
        "features are not given; learning the numeric columns of %s: %s%s",
        path,
        ", ".join(features),
        f" (left out: {', '.join(left)})" if left else "",
    )
    return features


def _beginning(path: str) -> tuple[bytes, int, bool]:
    """The first bytes of a file, where text begins in them, and whether they are all."""
    data = opened(path)
    try:
        first = data.read(BLOCK // 4)
        final = len(first) < BLOCK // 4
    except SourceFailed as error:
        raise Unreachable(str(error)) from error
    finally:
        data.close()
    return first, first_byte(first, True) or 0, final
