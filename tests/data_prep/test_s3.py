"""Remote input: a real S3-compatible server and a real web server on this machine."""

import gzip
import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import units
from data_prep.documents import Document, Reject
from data_prep.files import find
from data_prep.sources import READERS, Source
from runtime import plugins
from runtime.errors import DataError
from tests.data_prep.conftest import texts, write_jsonl

s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")
SECRET = "a-secret-of-the-environment"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A bucket with the files a.jsonl, b/c.jsonl.gz, .hidden and rows.parquet."""
    for key, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(key, value)
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    store.mkdir("corpus")
    found = texts(300, seed=3)
    write_jsonl(tmp_path / "a.jsonl", found)
    write_jsonl(tmp_path / "c.jsonl", found[:50])
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress((tmp_path / "c.jsonl").read_bytes()))
    pq.write_table(pa.table({"text": found}), tmp_path / "rows.parquet", row_group_size=100)
    for name, key in (
        ("a.jsonl", "a.jsonl"),
        ("c.jsonl.gz", "b/c.jsonl.gz"),
        ("a.jsonl", ".hidden"),
        ("rows.parquet", "rows.parquet"),
    ):
        store.pipe_file(f"corpus/{key}", (tmp_path / name).read_bytes())
    yield store
    store.rm("corpus", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


def source(path: str | list[str], reader: str = "jsonl", **more: Any) -> Source:
    table: Source = plugins.find(READERS, reader).Params.model_validate_json(
        json.dumps({"reader": reader, "path": path, **more})
    )
    return table


def read(params: Source) -> list[Document | Reject]:
    return [found for unit in units.units_of("s", params) for found in units.read(unit, params)]


def test_finds_and_reads_like_the_same_files_on_disk(bucket: Any, tmp_path: Path) -> None:
    names = [file.path for file in find(source("s3://corpus/"))]
    assert names == ["s3://corpus/a.jsonl", "s3://corpus/b/c.jsonl.gz", "s3://corpus/rows.parquet"]
    assert [file.path for file in find(source("s3://corpus/*/*.gz"))] == names[1:2]
    assert [file.path for file in find(source("s3://corpus/**/*.jsonl*"))] == names[:2]
    for remote, local, reader in (
        ("s3://corpus/a.jsonl", "a.jsonl", "jsonl"),
        ("s3://corpus/b/c.jsonl.gz", "c.jsonl.gz", "jsonl"),
        ("s3://corpus/rows.parquet", "rows.parquet", "parquet"),
    ):
        expected = read(source(str(tmp_path / local), reader))
        assert read(source(remote, reader)) == expected
        assert len(expected) in (50, 300)


@pytest.mark.parametrize("unit_bytes", [9_000, 50_000])
def test_byte_ranges_give_the_same_documents(bucket: Any, tmp_path: Path, unit_bytes: int) -> None:
    params = source("s3://corpus/a.jsonl", unit_bytes=unit_bytes)
    assert len(units.units_of("s", params)) > 3
    assert read(params) == read(source(str(tmp_path / "a.jsonl")))


def test_the_version_is_the_etag_and_a_change_ends_the_run(bucket: Any) -> None:
    params = source("s3://corpus/a.jsonl")
    (file,) = find(params)
    assert file.version == bucket.info("corpus/a.jsonl")["ETag"]
    listed = {file.path: file for file in find(source("s3://corpus/"))}
    assert listed[file.path] == file  # told by the listing or by a request for it: the same
    (unit,) = units.units_of("s", params)
    bucket.pipe_file("corpus/a.jsonl", b'{"text": "another"}\n')
    with pytest.raises(DataError, match=r"corpus/a\.jsonl has changed .* run the same command"):
        list(units.read(unit, params))


def test_errors_hold_no_credentials(bucket: Any) -> None:
    for path in ("s3://corpus/none.jsonl", "s3://no-such-bucket/a.jsonl"):
        with pytest.raises(DataError, match=r"no file at|cannot look up") as caught:
            find(source(path))
        assert SECRET not in str(caught.value)
    with pytest.raises(DataError, match="holds a password") as caught:
        find(source("https://user:hunter2@127.0.0.1/a.jsonl"))
    assert "hunter2" not in str(caught.value)


def test_a_store_that_fails_ends_the_run(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    params = source("s3://corpus/a.jsonl")
    (unit,) = units.units_of("s", params)

    def fail(*_: Any, **__: Any) -> bytes:
        raise TimeoutError("timed out")

    monkeypatch.setattr(s3fs.core.S3File, "_fetch_range", fail)
    with pytest.raises(DataError, match=r"cannot read s3://corpus/a.jsonl: .*timed out"):
        list(units.read(unit, params))


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder with listings; knows no byte ranges, as many servers do not."""

    def log_message(self, *_: Any) -> None:
        pass


class Ranged(Quiet):
    """Serves byte ranges and an ETag too."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if "Range" not in self.headers or not path.is_file():
            super().do_GET()
            return
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        content = path.read_bytes()
        chosen = content[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(chosen)))
        self.send_header(
            "Content-Range", f"bytes {first}-{int(first) + len(chosen) - 1}/{len(content)}"
        )
        self.end_headers()
        self.wfile.write(chosen)

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self.send_header("ETag", f'"{hash(path.read_bytes())}"')
        super().end_headers()


@pytest.fixture(params=[Quiet, Ranged])
def web(request: Any, tmp_path: Path) -> Iterator[tuple[str, Path, bool]]:
    folder = tmp_path / "web"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(request.param, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder, request.param is Ranged
    server.shutdown()
    server.server_close()


def test_reads_from_a_web_server(web: tuple[str, Path, bool]) -> None:
    url, folder, has_ranges = web
    write_jsonl(folder / "a.jsonl", texts(300, seed=4))
    write_jsonl(folder / "b.jsonl", texts(10, seed=5))
    expected = read(source(str(folder)))
    assert len(expected) == 310
    assert read(source(f"{url}/")) == expected
    assert read(source(f"{url}/*.jsonl")) == expected
    assert read(source([f"{url}/a.jsonl", f"{url}/b.jsonl"])) == expected
    if has_ranges:
        split = source(f"{url}/a.jsonl", unit_bytes=20_000)
        assert len(units.units_of("s", split)) > 3
        assert read(split) == expected[:300]
    (file,) = find(source(f"{url}/b.jsonl"))
    assert file.size == (folder / "b.jsonl").stat().st_size
    assert file.version


def test_a_change_on_a_web_server_ends_the_run(web: tuple[str, Path, bool]) -> None:
    url, folder, _ = web
    write_jsonl(folder / "a.jsonl", texts(3, seed=4))
    params = source(f"{url}/a.jsonl")
    (unit,) = units.units_of("s", params)
    write_jsonl(folder / "a.jsonl", texts(4, seed=4))
    with pytest.raises(DataError, match="has changed"):
        list(units.read(unit, params))
