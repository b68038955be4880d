"""Files through fsspec: finding them, cutting them in parts, opening a part.

Local paths and any fsspec URL work alike: `s3://` needs the package s3fs, `gs://` gcsfs, `http(s)`
aiohttp. Credentials come from the environment only (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL,
AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS...); a URL that holds a password is refused. A file that
is not the one the parts were made from ends the run: reading on would mix two versions.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from data_prep.compression import (
    SIGNATURE_BYTES,
    Damaged,
    Unpacked,
    ending_of,
    ending_of_content,
)
from data_prep.encodings import encoding_of
from data_prep.local_files import list_local
from data_prep.sources import InputFile, Part, Source
from runtime.errors import DataError

BUFFER_BYTES = 1 << 18
REQUEST_BYTES = 1 << 23  # asked of a remote store at once
PASSWORD = re.compile(r"://[^/@:]*:[^/@]*@")
VERSION_KEYS = ("ETag", "etag", "mtime", "LastModified", "Last-Modified", "Content-MD5", "Digest")


def find(params: Source) -> list[InputFile]:
    """The files of a source: for each path in turn, sorted by name. Raises DataError if none."""
    found: dict[str, InputFile] = {}
    for path in (params.path,) if isinstance(params.path, str) else params.path:
        if PASSWORD.search(path):
            raise DataError(
                "a `path` holds a password; take it out and give credentials in the environment"
            )
        try:
            files = list_files(path)
        except (OSError, ValueError, ImportError) as error:
            raise DataError(f"cannot look up {shown(path)!r}: {error}") from None
        if not files:
            raise DataError(f"no file at {shown(path)!r}; check `path` of the source")
        found.update((file.path, file) for file in files)
    return list(found.values())


def list_files(path: str) -> list[InputFile]:
    if ("://" not in path and "::" not in path) or os.path.exists(path):
        return [local_file(name) for name in list_local(path)]
    fs, root = url_to_fs(path)
    if isinstance(fs, LocalFileSystem):
        return [local_file(name) for name in list_local(root)]
    fs.invalidate_cache()  # or a listing from before answers
    # "?" begins the query of a web address.
    if "*" in root or (("?" in root or "[" in root) and not path.startswith("http")):
        listed = fs.glob(root, detail=True)
    elif fs.isdir(root):
        listed = fs.find(root, detail=True)
        listed = {name: info for name, info in listed.items() if not is_hidden(name, root)}
    else:
        listed = {root: {}} if fs.exists(root) else {}
    return [
        remote_file(fs, fs.unstrip_protocol(name), info)
        for name, info in sorted(listed.items())
        if info.get("type") != "directory" and not name.endswith("/")
    ]


def is_hidden(name: str, root: str) -> bool:
    inside = name[len(root) :] if name.startswith(root) else name
    return any(part.startswith(".") for part in inside.split("/"))


def local_file(name: str) -> InputFile:
    status = os.stat(name)
    return InputFile(name, status.st_size, str(status.st_mtime_ns))


def remote_file(fs: Any, url: str, listed: dict[str, Any]) -> InputFile:
    """A file as its listing says; a listing that gives no version (the web) costs one request."""
    info = listed if any(listed.get(key) for key in VERSION_KEYS) else fs.info(url)
    version = next((str(info[key]) for key in VERSION_KEYS if info.get(key)), "")
    return InputFile(url, int(info.get("size") or 0), version)


def version_of(file: InputFile) -> str:
    return f"{file.size} bytes, {file.version}"


def shown(path: str) -> str:
    """A path for messages: the query of a signed URL is a credential."""
    return path.partition("?")[0] if path.startswith("http") else path


def id_prefixes(files: list[InputFile]) -> dict[str, str]:
    """A short name for each file, unique among them and the same wherever the folder lies.

    What cannot be printed or stored (line ends, bytes that are not UTF-8) is escaped.
    """
    if len({PurePosixPath(file.path).name for file in files}) == len(files):
        return {file.path: escaped(PurePosixPath(file.path).name) for file in files}
    parts = [PurePosixPath(file.path).parts for file in files]
    shared = 0
    while len({part[shared] for part in parts if len(part) > shared}) == 1:
        shared += 1
    return {
        file.path: escaped("/".join(part[shared:])) for file, part in zip(files, parts, strict=True)
    }


def escaped(name: str) -> str:
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in name
    )


def whole_parts(params: Source) -> Iterator[Part]:
    """Each file of a source as one part."""
    files = find(params)
    prefixes = id_prefixes(files)
    for file in files:
        yield Part(file.path, 0, file.size, file.size, prefixes[file.path], version_of(file))


def byte_range_parts(params: Source) -> Iterator[Part]:
    """Files as ranges of `unit_bytes`; what is compressed or not UTF-8 stays whole."""
    for part in whole_parts(params):
        if part.size <= params.unit_bytes or not can_be_split(part, params):
            yield part
            continue
        for start in range(0, part.size, params.unit_bytes):
            end = min(start + params.unit_bytes, part.size)
            yield Part(part.path, start, end, end - start, part.id_prefix, part.version)


def can_be_split(part: Part, params: Source) -> bool:
    if ending_of(part.path):
        return False
    with open_raw(part.path) as file:
        head = file.read(SIGNATURE_BYTES)
    return not ending_of_content(head) and encoding_of(head, params.encoding) == "utf-8"


class Remote(io.RawIOBase):
    """A file of a remote store. A failed read ends the run: it says nothing about the file."""

    def __init__(self, path: str, file: Any) -> None:
        self.path = path
        self.file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self.file.seekable())

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        try:
            content = self.file.read(len(target))
        except Exception as error:  # whatever the store's library raises
            raise unreadable(self.path, error) from None
        target[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self.file.seek(offset, whence))

    def tell(self) -> int:
        return int(self.file.tell())

    def close(self) -> None:
        self.file.close()
        super().close()


def unreadable(path: str, error: Exception) -> DataError:
    first_line = (str(error) or type(error).__name__).splitlines()[0]
    return DataError(
        f"cannot read {shown(path)}: {first_line}; check the path, its permissions, the network "
        "and whether the file has changed, then run the same command again"
    )


def open_raw(path: str, *, is_streamed: bool = False) -> io.BufferedReader:
    """Open as it is stored; streamed means read once from the beginning. Raises DataError."""
    try:
        if os.path.isabs(path):
            return io.BufferedReader(io.FileIO(path), BUFFER_BYTES)
        fs, name = url_to_fs(path)
        if isinstance(fs, LocalFileSystem):
            return io.BufferedReader(io.FileIO(name), BUFFER_BYTES)
        # Not every web server knows byte ranges; none is needed to read a file as it comes.
        size = 0 if is_streamed and path.startswith("http") else REQUEST_BYTES
        file = fs.open(name, "rb", block_size=size)
    except (OSError, ValueError, ImportError) as error:
        raise unreadable(path, error) from None
    return io.BufferedReader(Remote(path, file), BUFFER_BYTES)


def open_file(path: str, max_ratio: int = 1 << 62) -> io.BufferedReader:
    """Open for reading from the beginning, decompressed. Raises DataError; reading also Damaged."""
    raw = open_raw(path, is_streamed=True)
    if ending := ending_of(path):
        raw = io.BufferedReader(Unpacked(raw, ending, max_ratio), BUFFER_BYTES)
    return raw


@contextmanager
def open_part(
    part: Part, params: Source, *, is_sequential: bool = True
) -> Iterator[io.BufferedReader]:
    """The bytes a part lies in, decompressed if read in sequence. Reading raises Damaged.

    Raises DataError if the file is not the planned one, here or once the body has read its part.
    """
    check_version(part)
    if part.start or not is_sequential:
        file = open_raw(part.path)
    else:
        file = open_file(part.path, params.max_compression_ratio)
    try:
        yield file
    except Damaged:
        check_version(part)  # a file that is being written looks damaged
        raise
    except OSError as error:
        raise unreadable(part.path, error) from None
    finally:
        file.close()
    check_version(part)


def check_version(part: Part) -> None:
    """Raise DataError if a file is not the one its parts were made from."""
    if not part.version:
        return
    try:
        if os.path.isabs(part.path):
            file = local_file(part.path)
        else:
            fs, _ = url_to_fs(part.path)
            fs.invalidate_cache()
            file = remote_file(fs, part.path, {})
    except (OSError, ValueError) as error:
        raise unreadable(part.path, error) from None
    if version_of(file) != part.version:
        raise DataError(
            f"{shown(part.path)} has changed since this run began: it was {part.version} and is "
            f"{version_of(file)}; run the same command again, and do not write to it meanwhile"
        )
