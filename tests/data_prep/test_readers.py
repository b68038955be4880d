"""Each reader: one example to check by eye, then every kind of damage."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import units
from data_prep.documents import Document, Reject
from data_prep.sources import READERS, Source
from runtime import plugins
from runtime.errors import DataError


def source(reader: str, path: Path, **more: Any) -> Source:
    table: Source = plugins.find(READERS, reader).Params.model_validate(
        {"reader": reader, "path": str(path), "domain": "test", **more}
    )
    return table


def read(params: Source) -> list[Document | Reject]:
    return [found for unit in units.units_of("s", params) for found in units.read(unit, params)]


def pairs(params: Source) -> list[tuple[str, str]]:
    return [(d.id, d.text) for d in read(params) if isinstance(d, Document)]


def reasons(params: Source) -> Counter[str]:
    return Counter(found.reason for found in read(params) if isinstance(found, Reject))


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 7, "body": "one"}\n\n{"body": "two\\nlines"}\n')
    assert pairs(source("jsonl", path, text="body", id="id")) == [
        ("7", "one"),
        ("a.jsonl@26", "two\nlines"),
    ]
    (document, _) = read(source("jsonl", path, text="body"))
    assert document == Document("a.jsonl@0", "one", "s", "test")


def test_jsonl_damage_is_quarantined_and_the_rest_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = [json.dumps({"text": f"good {i}"}).encode() for i in range(3)]
    path.write_bytes(
        b"\n".join([
            good[0],
            b'{"text": "cut off',
            b'{"text": "\xff\xfe"}',
            b'{"text": "a\\u0000b"}',
            b'{"text": "lone \\ud800"}',
            b'{"other": "field"}',
            b'{"text": 5}',
            b'["text"]',
            b'{"text": "' + b"x" * 2000 + b'"}',
            b"[" * 5000,
            good[1],
            b'{"text": "raw \x00 NUL"}',
            good[2],
        ])
    )  # fmt: skip
    params = source("jsonl", path, max_document_bytes=1000)
    assert [text for _, text in pairs(params)] == ["good 0", "good 1", "good 2"]
    assert reasons(params) == {
        "corrupt JSON": 2,
        "not valid UTF-8": 1,
        "contains NUL": 1,
        "not valid Unicode": 1,
        "text field missing": 1,
        "text is not a string": 1,
        "not a JSON object": 1,
        "line longer than max_document_bytes": 2,
    }
    for reject in read(params):
        if isinstance(reject, Reject):
            assert reject.kind == "quarantined"
            assert reject.sample
            assert len(reject.sample) <= 200


def test_truncated_gzip_is_quarantined(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [json.dumps({"text": f"{rng.random()} {rng.random()}"}) for _ in range(5000)]
    packed = gzip.compress("\n".join(rows).encode())
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    params = source("jsonl", path)
    assert 1000 < len(pairs(params)) < 4000
    assert reasons(params)["damaged file"] == 1


def test_text_file_paragraph_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n\n  \nthree\n")
    assert pairs(source("text", path)) == [("a.txt", "one\ntwo\n\n  \nthree")]
    assert pairs(source("text", path, document="blank_line")) == [
        ("a.txt@0", "one\ntwo"),
        ("a.txt@12", "three"),
    ]
    assert pairs(source("text", path, document="line")) == [
        ("a.txt@0", "one"),
        ("a.txt@4", "two"),
        ("a.txt@12", "three"),
    ]


def test_text_damage(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_bytes(b"\xfe\xfd not text")
    (tmp_path / "2.txt").write_bytes(b"word " * 1000)
    (tmp_path / "3.txt").write_text("good")
    (tmp_path / "4.txt").write_text("many\n" * 1000)
    (tmp_path / "5.txt.gz").write_bytes(gzip.compress(b"whole\n" * 100)[:-12])
    params = source("text", tmp_path, max_document_bytes=1000)
    assert pairs(params) == [("3.txt", "good")]
    assert reasons(params) == {
        "not valid UTF-8": 1,
        "longer than max_document_bytes": 2,
        "damaged file": 1,
    }


def test_text_paragraph_too_long(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("short\n\n" + "line of text\n" * 100 + "\nlast\n")
    params = source("text", path, document="blank_line", max_document_bytes=200)
    assert [text for _, text in pairs(params)] == ["short", "last"]
    assert reasons(params) == {"longer than max_document_bytes": 1}


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,plain\n2,"quoted, with ""marks""\nand a second line"\n')
    assert pairs(source("csv", path, id="id")) == [
        ("1", "plain"),
        ("2", 'quoted, with "marks"\nand a second line'),
    ]


def test_tsv_without_header(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("1\tfirst\n0\tsecond\n")
    params = source("csv", path, delimiter="\t", has_header=False, text="1")
    assert [text for _, text in pairs(params)] == ["first", "second"]


def test_csv_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"id,text\n1,good\n2\n3,a,b\n4,\xff\xfe\n5," + b"x" * 500 + b'\n6,"a"b\n7,fine\n8,"open\n'
    )
    params = source("csv", path, max_document_bytes=100)
    assert [text for _, text in pairs(params)] == ["good", "fine"]
    assert reasons(params)["wrong number of fields"] == 2
    assert reasons(params)["not valid Unicode"] == 1
    assert sum(reasons(params).values()) == 6


def write_parquet(path: Path, texts: list[str | None], rows: int = 2) -> Path:
    table = pa.table({"key": [f"k{i}" for i in range(len(texts))], "text": texts})
    pq.write_table(table, path, row_group_size=rows)
    return path


def test_parquet(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", ["one", None, "three", "four", "five"])
    params = source("parquet", path, unit_bytes=1)
    assert len(units.units_of("s", params)) == 3  # row groups
    assert pairs(params) == [
        ("a.parquet#0", "one"),
        ("a.parquet#2", "three"),
        ("a.parquet#3", "four"),
        ("a.parquet#4", "five"),
    ]
    assert pairs(source("parquet", path, id="key"))[0] == ("k0", "one")
    assert reasons(params) == {"text is not a string": 1}


def test_parquet_damage(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "a.parquet", ["good"]).read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:-20])
    (tmp_path / "c.parquet").write_bytes(b"no parquet")
    params = source("parquet", tmp_path)
    assert [text for _, text in pairs(params)] == ["good"]
    assert reasons(params) == {"damaged file": 2}


def test_parquet_without_the_column(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", ["x"])
    with pytest.raises(DataError, match=r"no column 'body' .* it has: key, text"):
        read(source("parquet", path, text="body"))


def test_hub_streams_a_local_data_set(tmp_path: Path) -> None:
    for shard in range(2):
        rows = [json.dumps({"text": f"{shard}-{i}", "n": i}) for i in range(2)]
        (tmp_path / f"train-{shard}.jsonl").write_text("\n".join(rows))
    params = source("hub", tmp_path)
    assert sorted(pairs(params)) == [
        ("train-0#0", "0-0"),
        ("train-0#1", "0-1"),
        ("train-1#0", "1-0"),
        ("train-1#1", "1-1"),
    ]
    with pytest.raises(DataError, match=r"no field 'body' .* it has: text, n"):
        read(source("hub", tmp_path, text="body"))


def test_hub_unreachable() -> None:
    params = source("hub", Path("nobody/nothing"))
    with pytest.raises(DataError, match=r"cannot stream data set 'nobody/nothing'.*HF_HUB_OFFLINE"):
        units.units_of("s", params)


def test_max_documents_reads_the_first(tmp_path: Path) -> None:
    for name in "ab":
        rows = [json.dumps({"text": f"{name}{i}"}) for i in range(5)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join([*rows[:2], "broken", *rows[2:]]))
    params = source("jsonl", tmp_path, max_documents=7, unit_bytes=20)
    assert len(units.units_of("s", params)) == 1
    assert [text for _, text in pairs(params)] == ["a0", "a1", "a2", "a3", "a4", "b0", "b1"]


def test_small_files_share_a_unit(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text("x" * 10)
    params = source("text", tmp_path, unit_bytes=35)
    assert [len(unit.parts) for unit in units.units_of("s", params)] == [3, 3, 3, 1]


def test_probe_names_the_fields_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "body": "x"}\n' * 5)
    params = source("jsonl", path)
    with pytest.raises(DataError, match=r"none of the first 5 .* field 'text'; fields: id, body"):
        units.probe(units.units_of("s", params), "s", params)


def test_probe_of_an_empty_source(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n\n")
    params = source("jsonl", tmp_path)
    with pytest.raises(DataError, match="source s holds no document"):
        units.probe(units.units_of("s", params), "s", params)
