"""Lines that are cut, quoted, ended or encoded in every way; none takes another with it."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_em.streams import Batch, Positions, Rejected, Source
from stream_em_connectors.codecs.cutting import records
from stream_em_connectors.files import (
    CsvSource,
    JsonLinesSource,
    text_reader,
)


def polled(source: Source, positions: Positions | None = None) -> Iterator[Batch]:
    stream = source.opened_at(positions)
    while not stream.ended:
        batch = stream.poll(0.5)
        if batch is not None:
            yield batch
    stream.close()


def read(source: Source) -> tuple[list[list[float]], list[Rejected]]:
    batches = list(polled(source))
    rows = [row for batch in batches for row in batch.rows.tolist()]
    return rows, [one for batch in batches for one in batch.rejected]


def csv_of(tmp_path: Path, text: str | bytes, **settings: Any) -> CsvSource:
    path = tmp_path / "in.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return CsvSource(str(path), **{"features": ["x", "y"], **settings})


def jsonl_of(tmp_path: Path, *lines: str | bytes, **settings: Any) -> JsonLinesSource:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(x.encode() + b"\n" if isinstance(x, str) else x for x in lines))
    return JsonLinesSource(str(path), **{"features": ["x", "y"], **settings})


# --- lines and widths -------------------------------------------------------------------


def test_other_widths_blank_lines_and_stray_returns(tmp_path: Path) -> None:
    lines = ["x,y", "1,2", "3", "", "4,5,6", "   ", "7,8\r9", '"a\rb",1', "10,11", ""]
    rows, rejected = read(csv_of(tmp_path, "\n".join(lines)))
    assert rows == [[1, 2], [10, 11]]
    reasons = ["schema", "empty", "schema", "empty", "schema", "decode_error"]
    assert [one.reason for one in rejected] == reasons
    assert [one.raw.decode() for one in rejected] == lines[2:8]
    assert "3 cells came, expected 2" in rejected[2].detail


def test_a_wrong_width_in_the_middle_of_many_rows(tmp_path: Path) -> None:
    lines = [f"{n},{-n}" for n in range(5000)]
    lines[2500] = "1,2,3"
    rows, rejected = read(csv_of(tmp_path, "x,y\n" + "\n".join(lines)))
    assert [row[0] for row in rows] == [n for n in range(5000) if n != 2500]
    assert [one.raw for one in rejected] == [b"1,2,3"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "bom"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "unended"])
def test_line_ends_byte_order_marks_and_quoted_newlines(
    tmp_path: Path, end: str, mark: bytes, last: bool
) -> None:
    text = end.join(["x,note,y", f'1,"a{end}b",2', '3,"say ""no"" , so",4', "5,,6"])
    data = mark + (text + end * last).encode()
    rows, rejected = read(csv_of(tmp_path, data, batch_size=2))
    assert rows == [[1, 2], [3, 4], [5, 6]]
    assert rejected == []
    batches = list(polled(csv_of(tmp_path, data, batch_size=2)))
    offsets = [x for batch in batches for x in batch.origins.offset.tolist()]
    assert [data[at : at + 2] for at in offsets] == [b"1,", b"3,", b"5,"]
    rest = list(polled(csv_of(tmp_path, data, batch_size=2), batches[0].next_positions))
    assert [batch.rows.tolist() for batch in rest] == [[[5, 6]]]


def test_decimal_commas(tmp_path: Path) -> None:
    source = csv_of(tmp_path, "x;y\n1,5;2\n1.5;3\n-0,25;1e1\n", delimiter=";", decimal=",")
    rows, rejected = read(source)
    assert rows == [[1.5, 2], [-0.25, 10]]
    assert [(one.reason, one.raw) for one in rejected] == [("decode_error", b"1.5;3")]


def test_no_header(tmp_path: Path) -> None:
    text = "1,2\n3,4\n"
    numbered = csv_of(tmp_path, text, header=False, features=["1", "0"])
    assert read(numbered)[0] == [[2, 1], [4, 3]]
    named = csv_of(tmp_path, text, header=False, columns=["x", "y"])
    assert read(named)[0] == [[1, 2], [3, 4]]


def test_other_encodings(tmp_path: Path) -> None:
    data = "größe,y,k\n1,2,ä\n3,4,ö\n".encode("latin-1")
    source = csv_of(tmp_path, data, features=["größe", "y"], key="k", encoding="latin-1")
    batch = next(polled(source))
    assert batch.rows.tolist() == [[1, 2], [3, 4]]
    assert batch.origins.keys == ("ä", "ö")


def test_a_line_of_ten_megabytes(tmp_path: Path) -> None:
    length = 10_000_000
    for data in (b"x,y\n1,2\n" + b"9" * length + b"\n3,4\n", b"x,y\n1,2\n" + b"9" * length):
        rows, rejected = read(csv_of(tmp_path, data))
        assert rows == [[1, 2], [3, 4]][: 1 + data.endswith(b"\n3,4\n")]
        assert [one.reason for one in rejected] == ["too_large"]
        assert rejected[0].raw == b"9" * 65536
        assert str(length) in rejected[0].detail
    source = jsonl_of(tmp_path, b'{"x": "' + b"9" * length + b'"}\n', '{"x": 1, "y": 2}')
    rows, rejected = read(source)
    assert rows == [[1, 2]]
    assert (rejected[0].reason, rejected[0].offset) == ("too_large", 0)


@pytest.mark.parametrize("block", [7, 64, 1 << 22])
def test_long_lines_and_open_quotes_wherever_blocks_end(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_reader, "BLOCK", block)
    long = "9" * 40 + ",1"
    lines = ["x,y", "1,2", long, "3,4", '"5,6', "7,8", "9,10", long, "11,12", '"13,14', "15,16"]
    source = csv_of(tmp_path, "\n".join(lines), max_record_bytes=35)
    rows, rejected = read(source)
    assert rows == [[1, 2], [3, 4], [7, 8], [9, 10], [11, 12], [15, 16]]
    assert [one.raw.decode() for one in rejected] == [long, '"5,6', long, '"13,14']
    assert [one.reason for one in rejected] == ["too_large", "decode_error"] * 2


CELL = st.text(alphabet='ab,;"\n 1é', max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(CELL, min_size=2, max_size=3), max_size=6), st.integers(0, 20))
def test_records_are_cut_where_the_csv_module_cuts(table: list[list[str]], cut: int) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)
    data = buffer.getvalue().encode()
    spans = records(data, 0, ",", '"')
    assert [next(csv.reader([one.decode()])) for one in spans.of(data)] == table
    first = records(data[:cut], 0, ",", '"')
    begin = int(first.afters[-1]) if len(first) else 0
    rest = records(data, begin, ",", '"')
    assert [*first.of(data), *rest.of(data)] == spans.of(data)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(alphabet='a,"1', max_size=8), max_size=5))
def test_quotes_inside_unquoted_cells_mean_nothing(lines: list[str]) -> None:
    data = "".join(line + "\n" for line in lines).encode()
    expected = list(csv.reader(io.StringIO(data.decode())))
    found = records(data, 0, ",", '"')
    whole = [list(csv.reader([one.decode()])) for one in found.of(data)]
    assert [cells[0] if cells else [] for cells in whole] == expected[: len(whole)]
    assert len(expected) - len(whole) in (0, 1)  # a quote that is never closed


USUAL = ["1", "2.5", " 4 ", "+5", "", "NA", "abc", '"6"', "inf", "1e200"]
ODD = ['"a\nb"', '5" x', '"x"y', '"', '""', "é", "\udcff", "1\r", "\r", "   "]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(USUAL + ODD), min_size=1, max_size=4), max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([12, 1000]),
    st.sampled_from([1, 7, 33]),
)
def test_a_record_is_the_same_wherever_blocks_end(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[list[str]],
    end: str,
    limit: int,
    block: int,
) -> None:
    text = end.join(["x,y,k", *(",".join(cells) for cells in table)])
    folder = tmp_path_factory.mktemp("fuzz")
    data = text.encode(errors="surrogateescape")
    source = csv_of(folder, data, key="k", batch_size=3, max_record_bytes=limit)
    whole = [(b.rows.tolist(), b.origins.keys, b.rejected) for b in polled(source)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_reader, "BLOCK", block)
        cut = [(b.rows.tolist(), b.origins.keys, b.rejected) for b in polled(source)]
    assert cut == whole
