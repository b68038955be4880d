"""Hostile input: nothing hangs, nothing is held in memory, nothing is lost without a reason.

Every test counts: what went in is kept or stands in a reject with file, place and reason.
"""

import bz2
import gzip
import json
import lzma
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from data_prep import units
from data_prep.documents import Document, Reject
from data_prep.files import byte_range_parts, find, id_prefixes
from runtime.errors import DataError
from tests.data_prep.test_readers import pairs, read, reasons, source

ROOT = Path(__file__).resolve().parents[2]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def row(text: str) -> bytes:
    return json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"


def rejects(path: Path, reader: str = "jsonl", **more: object) -> list[tuple[str, str]]:
    found = read(source(reader, path, **more))
    return [(reject.id, reject.reason) for reject in found if isinstance(reject, Reject)]


PEAK = """
import resource, sys
from pathlib import Path
from tests.data_prep.test_readers import read, source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read(source("jsonl", Path(sys.argv[1]), unit_bytes=int(sys.argv[2])))
print([(one.id, getattr(one, "reason", "kept")) for one in found])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("size", "unit_bytes"),
    [
        (1 << 27, 1 << 23),
        pytest.param(1 << 30, 1 << 26, marks=pytest.mark.slow),
        pytest.param(1 << 30, 1 << 40, marks=pytest.mark.slow),
    ],
)
def test_a_line_of_a_gigabyte(tmp_path: Path, size: int, unit_bytes: int) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(row("before") + b'{"text": "')
        file.seek(size, os.SEEK_CUR)  # a hole, which reads as NUL bytes
        file.write(b'"}\n' + row("after"))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(unit_bytes)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found, peak = done.stdout.splitlines()
    assert found == str([
        ("a.jsonl@0", "kept"),
        ("a.jsonl@19", "line longer than max_document_bytes"),
        (f"a.jsonl@{19 + 10 + size + 3}", "kept"),
    ])  # fmt: skip
    assert int(peak) < 150  # MiB; the line may be kept up to max_document_bytes (16 MiB)


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_bomb_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"bomb.jsonl{ending}"
    path.write_bytes(COMPRESS[ending](row("before") + b" " * 80_000_000))
    assert path.stat().st_size < 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert [text for _, text in pairs(source("jsonl", path))] == ["before"]
    (reject,) = [found for found in read(source("jsonl", path)) if isinstance(found, Reject)]
    assert (reject.id, reject.reason) == (path.name, "decompression ratio")
    assert "max_compression_ratio (200)" in reject.sample
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert rejects(path, max_compression_ratio=10_000_000) == [
        (f"{path.name}@19", "line longer than max_document_bytes")
    ]


@pytest.mark.parametrize("ending", COMPRESS)
def test_truncated_files_are_counted(tmp_path: Path, ending: str) -> None:
    packed = COMPRESS[ending](b"".join(row(f"{i} {i * i}") for i in range(1000)))
    for share in (0.1, 0.5, 0.99):
        path = tmp_path / f"{share}.jsonl{ending}"
        path.write_bytes(packed[: int(len(packed) * share)])
        found = read(source("jsonl", path))
        kept = [one.text for one in found if isinstance(one, Document)]
        assert kept == [f"{i} {i * i}" for i in range(len(kept))]
        (reject,) = [one for one in found if isinstance(one, Reject)]
        assert (reject.id, reject.reason) == (path.name, "damaged file")
        assert "truncated" in reject.sample


@pytest.mark.parametrize("ending", COMPRESS)
def test_names_that_lie_about_compression(tmp_path: Path, ending: str) -> None:
    plain = tmp_path / f"plain.jsonl{ending}"
    plain.write_bytes(row("not compressed"))
    packed = tmp_path / "packed.jsonl"
    packed.write_bytes(COMPRESS[ending](row("x" * 5000)))
    empty = tmp_path / f"empty.jsonl{ending}"
    empty.write_bytes(b"")
    found = read(source("jsonl", tmp_path, unit_bytes=20))
    assert [(one.id, one.reason) for one in found if isinstance(one, Reject)] == [
        (empty.name, "damaged file"), (packed.name, "damaged file"), (plain.name, "damaged file"),
    ]  # fmt: skip
    samples = [one.sample for one in found if isinstance(one, Reject)]
    assert f"named {ending}, but the content is empty" in samples[0]
    assert f"the content is compressed: name the file with {ending}" in samples[1]
    assert f"named {ending}, but the content begins with b'{{" in samples[2]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_byte_order_marks(tmp_path: Path, encoding: str, ending: str) -> None:
    content = "".join(row(text).decode() for text in ("one", "中文 😀", "three"))
    if encoding == "utf-16-be":
        content = "\ufeff" + content
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes((gzip.compress if ending else bytes)(content.encode(encoding)))
    params = source("jsonl", path, unit_bytes=16)
    mark = 3 if encoding == "utf-8-sig" else 0  # bytes; in others it is no part of the text
    assert pairs(params) == [
        ("a.jsonl" + ending + "@0", "one"),
        (f"a.jsonl{ending}@{16 + mark}", "中文 😀"),
        (f"a.jsonl{ending}@{16 + mark + len(row('中文 😀'))}", "three"),
    ]


def test_other_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes("".join(row(t).decode() for t in ("中文", "second")).encode("gb18030"))
    assert reasons(source("jsonl", path)) == {"not valid UTF-8": 1}
    assert [text for _, text in pairs(source("jsonl", path, encoding="gb18030"))] == [
        "中文", "second",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no such encoding"):
        source("jsonl", path, encoding="base64")


def test_encodings_mixed_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [
        row("utf-8 é"),
        row("latin é").decode().encode("latin-1"),
        row("gb 中").decode().encode("gbk"),
        row("fine"),
        row("wide").decode().encode("utf-16-le"),
        row("last"),
    ]
    path.write_bytes(b"".join(lines))
    found = read(source("jsonl", path))
    assert [one.text for one in found if isinstance(one, Document)] == ["utf-8 é", "fine"]
    # The wide line ends with half a character, which begins the last one.
    assert reasons(source("jsonl", path)) == {"not valid UTF-8": 2, "corrupt JSON": 2}
    assert all(one.id.startswith("a.jsonl@") for one in found)


def test_a_damaged_utf_16_file_loses_its_bad_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    good = "good\n".encode("utf-16-le")
    path.write_bytes(b"\xff\xfe" + good + b"\x00\xd8b\x00\n\x00" + good + b"x")
    params = source("text", path, document="line")
    assert [text for _, text in pairs(params)] == ["good", "good"]
    assert rejects(path, "text", document="line") == [
        ("a.txt@5", "not valid UTF-8"),
        ("a.txt", "damaged file"),
    ]


def test_nul_bytes_and_deep_nesting(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [
        row("good"),
        b"\x00" * 50 + b"\n",
        b'{"text": "a\\u0000b"}\n',
        b"[" * 100_000 + b"\n",
        b'{"text": ' + b'{"a": ' * 100_000 + b"\n",
        b'{"text": {"text": "inner"}}\n',
    ]
    path.write_bytes(b"".join(lines))
    found = read(source("jsonl", path))
    assert len(found) == len(lines)
    assert reasons(source("jsonl", path)) == {
        "corrupt JSON": 3, "contains NUL": 1, "text is not a string": 1,
    }  # fmt: skip
    assert [text for _, text in pairs(source("jsonl", path, text="text.text"))] == ["inner"]


def test_empty_files_hold_no_documents(tmp_path: Path) -> None:
    for reader in ("jsonl", "json", "csv", "tsv", "text", "markdown", "html", "conll", "warc"):
        (tmp_path / "empty").write_bytes(b"")
        assert read(source(reader, tmp_path / "empty")) == []


def test_links_are_followed_once(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o.jsonl").write_bytes(row("outside"))
    folder = tmp_path / "corpus"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.jsonl").write_bytes(row("a"))
    (folder / "again.jsonl").symlink_to(folder / "sub" / "a.jsonl")
    (folder / "loop").symlink_to(folder)
    (folder / "sub" / "up").symlink_to("..")
    (folder / "z-other").symlink_to(outside)
    assert sorted(text for _, text in pairs(source("jsonl", folder))) == ["a", "outside"]
    for pattern in ("**/*.jsonl", "*/*.jsonl"):
        found = pairs(source("jsonl", folder / pattern))
        assert sorted(text for _, text in found) == ["a", "outside"]
    (folder / "broken.jsonl").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"broken\.jsonl' is a broken link"):
        find(source("jsonl", folder))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(row("a"))
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match=r"pipe\.jsonl' is a named pipe, not a file"):
        find(source("jsonl", tmp_path))
    assert len(find(source("jsonl", tmp_path / "a*"))) == 1
    (tmp_path / "pipe.jsonl").unlink()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.path.relpath(tmp_path / "s"))
    with listening, pytest.raises(DataError, match="is a socket, not a file"):
        find(source("jsonl", tmp_path))
    with pytest.raises(DataError, match="'/dev/zero' is a device, not a file"):
        find(source("jsonl", Path("/dev/zero")))


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(row("a"))
    params = source("jsonl", path)
    if os.geteuid():
        path.chmod(0)
    else:  # root may read everything
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(DataError, match=r"cannot read .*a\.jsonl': no permission"):
        find(params)


def test_strange_names(tmp_path: Path) -> None:
    names = ["new\nline.jsonl", "a::b.jsonl", "star*[1]?.jsonl", os.fsdecode(b"\xff.jsonl"), "..x"]
    (tmp_path / "in").mkdir()
    for name in names[:4]:
        (tmp_path / "in" / name).write_bytes(row(name.encode("utf-8", "replace").decode()))
    found = pairs(source("jsonl", tmp_path / "in" / ".." / "in"))
    assert sorted(id for id, _ in found) == [
        "\\udcff.jsonl@0", "a::b.jsonl@0", "new\\nline.jsonl@0", "star*[1]?.jsonl@0",
    ]  # fmt: skip
    for name in names[:4]:
        assert len(pairs(source("jsonl", tmp_path / "in" / name))) == 1
    assert list(id_prefixes(find(source("jsonl", tmp_path / "in"))).values()).count("..") == 0


@pytest.mark.parametrize("how", ["grows", "same size", "replaced", "gone"])
@pytest.mark.parametrize("reader", ["jsonl", "text", "csv"])
def test_a_source_that_changes_ends_the_run(tmp_path: Path, how: str, reader: str) -> None:
    path = tmp_path / "a.data"
    path.write_bytes(b"text\n" + row("first") * 100_000)
    params = source(reader, path, **({"document": "line"} if reader == "text" else {}))
    (unit,) = units.units_of("s", params)
    found = units.read(unit, params)
    next(found)
    if how == "grows":
        with path.open("ab") as file:
            file.write(row("more"))
    elif how == "same size":
        os.utime(path, ns=(1, 1))
    elif how == "replaced":
        other = tmp_path / "other"
        other.write_bytes(row("other"))
        other.replace(path)
    else:
        path.unlink()
    expected = "cannot read" if how == "gone" else "has changed since this run began"
    with pytest.raises(DataError, match=rf"{expected}|a\.data.*{expected}"):
        list(found)


def test_a_quote_that_is_never_closed_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,text\n1,good\n2,"open\n' + b"3,line\n" * 100_000)
    found = read(source("csv", path, max_document_bytes=1000))
    assert found[0] == Document("a.csv#2", "good", "s", "test")
    reject = next(one for one in found if isinstance(one, Reject))
    assert (reject.id, reject.reason) == ("a.csv#3", "corrupt CSV row")


def test_lines_beyond_the_part_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(row("x") + b'{"text": "' + b"y" * 500_000 + b'"}\n' + row("z"))
    params = source("jsonl", path, unit_bytes=10_000, max_document_bytes=1000)
    assert len(list(byte_range_parts(params))) == 51
    assert [text for _, text in pairs(params)] == ["x", "z"]
    assert rejects(path, unit_bytes=10_000, max_document_bytes=1000) == [
        ("a.jsonl@14", "line longer than max_document_bytes")
    ]
