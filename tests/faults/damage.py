"""What happens to files on disks and in copies: one random fault of a known kind in one file.

A fault always changes what the file holds or is; where a draw would not (a page that is all zeros,
two equal files), the seed is passed over. `Damage.undo` puts everything back.
"""

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = 4096
MOST_ADDED_BYTES = 5000


@dataclass(frozen=True)
class Damage:
    """One fault that was put into a file."""

    kind: str
    path: Path
    original: bytes
    other: Path | None = None  # the file it was swapped with
    other_original: bytes = b""

    def undo(self) -> None:
        if self.path.is_symlink() or self.path.is_file():
            self.path.unlink()
        elif self.path.is_dir():
            shutil.rmtree(self.path)
        self.path.write_bytes(self.original)
        if self.other is not None:
            self.other.write_bytes(self.other_original)


Change = Callable[[bytes, random.Random], bytes]


def flipped(content: bytes, rng: random.Random) -> bytes:
    """One bit at a random place."""
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content))]


def last_byte_cut(content: bytes, rng: random.Random) -> bytes:
    return content[:-1]


def grown(content: bytes, rng: random.Random) -> bytes:
    """More bytes: random ones, zeros, or what a text may end with."""
    count = rng.randrange(1, MOST_ADDED_BYTES)
    return content + rng.choice([rng.randbytes(count), bytes(count), b"\n", b" "])


def page_zeroed(content: bytes, rng: random.Random) -> bytes:
    """A page that never reached the disk."""
    begin = rng.randrange(0, len(content), PAGE_BYTES)
    end = min(begin + PAGE_BYTES, len(content))
    return content[:begin] + bytes(end - begin) + content[end:]


def emptied(content: bytes, rng: random.Random) -> bytes:
    return b""


CHANGES: dict[str, Change] = {
    "bit flipped": flipped,
    "truncated": truncated,
    "last byte cut": last_byte_cut,
    "grown": grown,
    "page zeroed": page_zeroed,
    "emptied": emptied,
}
# A flip is the fault that is hardest to see: half of all draws.
KINDS = (*["bit flipped"] * 9, *list(CHANGES)[1:], "swapped", "missing", "folder", "link")


def damage(files: list[Path], twin_of: Callable[[Path], Path | None], seed: int) -> Damage | None:
    """Put the fault of a seed into one of the files; None if it would have changed nothing.

    `twin_of` gives the file of the same name that another checkpoint or source has.
    """
    rng = random.Random(seed)
    kind, path = rng.choice(KINDS), rng.choice(files)
    content, twin = path.read_bytes(), twin_of(path)
    if kind in CHANGES:
        changed = CHANGES[kind](content, rng)
        if changed == content:
            return None
        path.write_bytes(changed)
        return Damage(kind, path, content)
    if kind in ("swapped", "link"):
        other = None if twin is None else twin.read_bytes()
        if twin is None or other is None or other == content:
            return None
        if kind == "swapped":
            path.write_bytes(other)
            twin.write_bytes(content)
            return Damage(kind, path, content, twin, other)
        path.unlink()
        path.symlink_to(twin)
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()
    return Damage(kind, path, content)


def files_below(folder: Path) -> list[Path]:
    """Every file, in an order that does not depend on the file system."""
    return sorted(Path(root) / name for root, _, names in os.walk(folder) for name in names)
