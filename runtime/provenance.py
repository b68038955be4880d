"""Where results come from: atomic files, fingerprints, versions, the command and the commit of a
run.

A file written here is whole or absent: bytes go to a temporary file in the same folder, are
fsynced, then renamed over the name, and the folder is fsynced. Fingerprints are `xxh3:` plus 32 hex
digits (XXH3, 128 bits).
"""

import json
import os
import platform
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import xxhash

from runtime.errors import DataError
from runtime.redaction import redacted

PACKAGES = (
    "textmill", "torch", "deepspeed", "transformers", "datasets", "tokenizers", "sentencepiece",
    "numpy", "pyarrow", "onnxruntime",
)  # fmt: skip
READ_BYTES = 1 << 22


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file to write, which takes the name `path` when the block ends without error. The
    folder is not fsynced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    fsync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file or nothing."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a whole JSON file or nothing; keys keep their order."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """The text of a JSON file as it is written here. Raises ValueError for what JSON has not."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def is_as_written(content: bytes, value: Any) -> bool:
    """True if a JSON file of this content is byte for byte what is written here for the value."""
    try:
        return content == json_text(value).encode("utf-8")
    except ValueError:  # NaN or half a surrogate pair, which are never written
        return False


def signed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the fingerprint of all its other entries as the last one."""
    kept = {key: value for key, value in facts.items() if key != "fingerprint"}
    # As it will be read again: keys of a mapping may be no strings here.
    return {**kept, "fingerprint": fingerprint(json.loads(json_text(kept)))}


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises DataError if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(
            f"{path} is not valid JSON ({error}); remove it and run the stage again"
        ) from None


def failure(error: OSError, path: Path) -> OSError:
    """An error of writing to an open file, with the file's name, which it lacks."""
    return OSError(error.errno, error.strerror or str(error), str(path))


def fsync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fingerprint(value: Any) -> str:
    """Fingerprint of a JSON-like value; the order of keys does not matter."""
    canonical = json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str
    )
    return f"xxh3:{xxhash.xxh3_128_hexdigest(canonical.encode('utf-8'))}"


def file_fingerprint(path: Path) -> str:
    """Fingerprint of a file's content, read in blocks."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return f"xxh3:{digest.hexdigest()}"


def files_fingerprint(files: Iterable[Path]) -> str:
    """Fingerprint of several files: names and contents, in the order of their names."""
    return fingerprint([[path.name, file_fingerprint(path)] for path in sorted(files)])


def run_record() -> dict[str, Any]:
    """What a run directory records about how it was started."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [redacted(word, os.environ) for word in sys.argv],
        "folder": os.getcwd(),
        "host": socket.gethostname(),
        "git": git_state(),
        "versions": versions(),
    }


def record_start(folder: Path, resolved_recipe: str) -> None:
    """Note in a run's folder how it was started: recipe.toml (latest), run.json (every start)."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*.tmp"):  # of a start that was killed while it wrote
        leftover.unlink(missing_ok=True)
    path = folder / "run.json"
    starts = read_json(path)["starts"] if path.is_file() else []
    write_json(path, {"starts": [*starts, run_record()]})
    write_text(folder / "recipe.toml", resolved_recipe)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of this source tree and whether it has uncommitted changes; None outside a
    checkout."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "-uno")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
