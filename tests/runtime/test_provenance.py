"""Files that are whole or absent, fingerprints, and what a run records about itself."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import xxhash

from runtime import provenance
from runtime.errors import DataError


def test_json_round_trip_keeps_text_and_order(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, True], "a": "Zürich 北京"}
    provenance.write_json(tmp_path / "x.json", value)
    assert provenance.read_json(tmp_path / "x.json") == value
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert text.index('"b"') < text.index('"a"')
    assert "北京" in text
    assert text.endswith("}\n")


def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        provenance.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provenance.write_text(tmp_path / "x", "old")

    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(provenance.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        provenance.write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    """A process that rewrites a large file for ever is killed; the file is one whole version."""
    path = tmp_path / "x"
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from runtime import provenance
        version = 0
        while True:
            provenance.write_bytes(Path(sys.argv[1]), bytes([version % 256]) * 2_000_000)
            version += 1
        """
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", script, str(path)])
        deadline = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        content = path.read_bytes()
        assert len(content) == 2_000_000
        assert len(set(content)) == 1


def test_reading_what_is_not_there_or_not_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*absent\.json: No such file"):
        provenance.read_json(tmp_path / "absent.json")
    (tmp_path / "torn.json").write_text('{"a": [1, 2')
    with pytest.raises(DataError, match=r"torn\.json is not valid JSON .*run the stage again"):
        provenance.read_json(tmp_path / "torn.json")


def test_fingerprint_ignores_the_order_of_keys_and_nothing_else() -> None:
    first = provenance.fingerprint({"a": 1, "b": [1, 2]})
    assert first == provenance.fingerprint({"b": [1, 2], "a": 1})
    assert first != provenance.fingerprint({"a": 1, "b": [2, 1]})
    assert first != provenance.fingerprint({"a": 1.0, "b": [1, 2]})
    assert first.startswith("xxh3:")
    assert len(first) == len("xxh3:") + 32


def test_file_fingerprint_is_xxh3_of_the_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "READ_BYTES", 7)
    content = bytes(range(256))
    (tmp_path / "x").write_bytes(content)
    expected = f"xxh3:{xxhash.xxh3_128_hexdigest(content)}"
    assert provenance.file_fingerprint(tmp_path / "x") == expected


def test_files_fingerprint_holds_names_and_contents_not_order(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text(path.name)
    first = provenance.files_fingerprint(paths)
    assert first == provenance.files_fingerprint(reversed(paths))
    paths[1].rename(tmp_path / "c")
    assert first != provenance.files_fingerprint([paths[0], tmp_path / "c"])


def test_a_run_records_how_it_was_started() -> None:
    record = provenance.run_record()
    assert record["command"] == sys.argv
    assert record["versions"]["torch"].startswith("2.")
    assert set(provenance.PACKAGES) < set(record["versions"])
    if record["git"] is not None:
        assert len(record["git"]["commit"]) == 40
