"""Files on a local disk: by name, in a folder, or by a glob; each real file once.

Links are followed, also out of the folder, but no folder is entered and no file is listed a second
time, so a loop of links ends. Hidden names are passed over inside folders. What cannot be read as a
file (a broken link, a pipe, a socket, a device, a file without permission) is refused here: opening
a pipe would wait for ever, and leaving something out in silence would lose text.
"""

import os
import re
import stat
from collections.abc import Iterator

from fsspec.utils import glob_translate

from runtime.errors import DataError

MAGIC = re.compile(r"[*?\[]")


def list_local(path: str) -> list[str]:
    """Absolute names, sorted. Raises DataError for what is no readable file."""
    path = os.path.abspath(path)
    if os.path.isdir(path):
        names = walk(path, None)
    elif os.path.lexists(path) or not MAGIC.search(path):
        names = iter([path] if os.path.lexists(path) else [])
    else:
        names = matches(path)
    seen: set[str] = set()
    found = []
    for name in sorted(names):
        check_file(name)
        real = os.path.realpath(name)
        if real not in seen:
            seen.add(real)
            found.append(name)
    return found


def matches(pattern: str) -> Iterator[str]:
    """The files a glob names; `**` is any depth."""
    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if MAGIC.search(part))
    depth = None if "**" in pattern else len(parts) - fixed
    expression = re.compile(glob_translate(pattern))
    root = "/".join(parts[:fixed]) or "/"
    if os.path.isdir(root):
        yield from (name for name in walk(root, depth) if expression.match(name))


def walk(root: str, depth: int | None) -> Iterator[str]:
    """Every visible name below a folder that is no folder itself, at most `depth` levels down."""
    entered = set()
    waiting = [(root, 1)]
    while waiting:
        folder, level = waiting.pop()
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        with os.scandir(folder) as entries:
            # Sorted, so that which of two ways to a folder is taken does not depend on the disk.
            listed = sorted(entries, key=lambda entry: entry.name, reverse=True)
        for entry in listed:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield entry.path
            elif depth is None or level < depth:
                waiting.append((entry.path, level + 1))


def check_file(name: str) -> None:
    """Raise DataError if a name is not a file that can be read."""
    try:
        mode = os.stat(name).st_mode
    except OSError as error:
        kind = "a broken link" if os.path.islink(name) else f"not there ({error.strerror})"
        raise DataError(f"{name!r} is {kind}; remove it or name the files by a glob") from None
    if not stat.S_ISREG(mode):
        kind = next((kind for is_kind, kind in KINDS if is_kind(mode)), "no file")
        raise DataError(f"{name!r} is {kind}, not a file; remove it or name the files by a glob")
    if not os.access(name, os.R_OK):
        raise DataError(f"cannot read {name!r}: no permission; allow it or take the file out")


KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
