"""Files: compression, byte ranges, bounded lines, and where they break."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from data_prep.compression import Damaged
from data_prep.files import byte_range_parts, find, id_prefixes, open_file
from data_prep.input_lines import lines
from data_prep.readers.jsonl import Params
from data_prep.sources import Part
from runtime.errors import DataError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
CONTENT = b"".join(b"line %d %s\n" % (i, b"x" * (i % 50)) for i in range(20_000))


def params(path: Path | str, **more: object) -> Params:
    return Params.model_validate({"reader": "jsonl", "path": str(path), **more})


def part(path: Path, start: int = 0, end: int | None = None) -> Part:
    size = path.stat().st_size
    return Part(str(path), start, size if end is None else end, size, path.name)


def contents(piece: Part, max_bytes: int) -> list[bytes]:
    table = params(piece.path, max_document_bytes=max_bytes)
    return [line for _, line, _ in lines(piece, table)]


@pytest.mark.parametrize("ending", COMPRESS)
def test_reads_every_compression(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(COMPRESS[ending](CONTENT))
    with open_file(str(path)) as file:
        assert file.read() == CONTENT


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_reads_several_streams_in_one_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(COMPRESS[ending](b"one\n") + COMPRESS[ending](b"two\n"))
    assert contents(part(path), 100) == [b"one", b"two"]


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_a_truncated_file_gives_what_is_there_and_then_says_so(
    tmp_path: Path, ending: str, keep: float
) -> None:
    packed = COMPRESS[ending](CONTENT)
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(packed[: int(len(packed) * keep)])
    found: list[bytes] = []
    with pytest.raises(Damaged, match=r"truncated"):
        found.extend(line[1] for line in lines(part(path), params(path, max_document_bytes=1000)))
    if ending in (".gz", ".zst"):
        assert len(found) > 5000
    assert b"\n".join([*found, b""]) == CONTENT[: sum(len(line) + 1 for line in found)]


def test_garbage_instead_of_a_compressed_file(tmp_path: Path) -> None:
    for ending in (".gz", ".bz2", ".xz", ".zst"):
        path = tmp_path / f"a.txt{ending}"
        path.write_bytes(b"this is no compressed file at all\n" * 10)
        with pytest.raises(Damaged):
            contents(part(path), 100)


@pytest.mark.parametrize("unit_bytes", [1, 7, 100, 4096])
def test_byte_ranges_give_each_line_once(tmp_path: Path, unit_bytes: int) -> None:
    path = tmp_path / "a.txt"
    content = CONTENT[:2000] + b"\n\r\n" + b"y" * 300 + b"\nlast without end"
    path.write_bytes(content)
    found = []
    for piece in byte_range_parts(params(path, unit_bytes=unit_bytes)):
        found += list(lines(piece, params(path, max_document_bytes=1000)))
    assert [line for _, line, _ in found] == [
        line.removesuffix(b"\r") for line in content.split(b"\n")
    ]
    assert all(content[offset:].startswith(line) for offset, line, _ in found)


def test_a_compressed_file_is_one_part(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(CONTENT))
    assert len(list(byte_range_parts(params(path, unit_bytes=10)))) == 1


@pytest.mark.parametrize(("length", "too_long"), [(99, False), (100, False), (101, True)])
def test_long_lines_are_cut_and_marked(tmp_path: Path, length: int, too_long: bool) -> None:
    for end in (b"\n", b"\r\n", b""):
        path = tmp_path / "a.txt"
        path.write_bytes(b"first\n" + b"z" * length + end)
        first, (offset, content, is_too_long) = lines(
            part(path), params(path, max_document_bytes=100)
        )
        assert first == (0, b"first", False)
        assert (offset, is_too_long) == (6, too_long)
        assert len(content) == min(length, 100)


def test_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfhello\n")
    assert contents(part(path), 100) == [b"hello"]


def test_finds_files_folders_and_globs_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/2.txt", "b/1.txt", "a.txt", ".hidden"):
        (tmp_path / name).write_text("x")

    def names(path: str | tuple[str, ...]) -> list[str]:
        table = params("x").model_copy(update={"path": path})
        return [str(Path(file.path).relative_to(tmp_path)) for file in find(table)]

    assert names(str(tmp_path)) == ["a.txt", "b/1.txt", "b/2.txt"]
    assert names(f"{tmp_path}/b/*.txt") == ["b/1.txt", "b/2.txt"]
    assert names((f"{tmp_path}/b/2.txt", f"{tmp_path}/a.txt")) == ["b/2.txt", "a.txt"]


def test_ids_are_short_and_do_not_depend_on_the_place(tmp_path: Path) -> None:
    for name in ("x/a.txt", "y/a.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    assert list(id_prefixes(find(params(tmp_path))).values()) == ["x/a.txt", "y/a.txt"]
    assert list(id_prefixes(find(params(tmp_path / "x"))).values()) == ["a.txt"]


@pytest.mark.parametrize("path", ["/no/such/file.jsonl", "/no/such/*.jsonl", "nowhere://a/b"])
def test_missing_paths(path: str) -> None:
    with pytest.raises(DataError, match=r"no file at|cannot look up"):
        find(params(path))
