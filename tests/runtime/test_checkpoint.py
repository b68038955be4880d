"""The checkpoint protocol on files: whole or absent, verified before use, pruned as asked.

The engine here writes plain bytes; real shards under real ranks are in
tests/pretrain/test_resume.py.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from runtime import checkpoint, config
from runtime.checkpoint import Position
from runtime.engine import Engine
from runtime.errors import DataError, DiskError

KEEP = config.Checkpoint(keep_last=2, keep_best=True)
IDENTITY = {"model": "m", "data": "d"}


class Shards:
    """Stands for an engine: its state is one file."""

    stage = 3

    def __init__(self) -> None:
        self.state = b""
        self.fails_after_write = False

    def save_shards(self, folder: Path) -> None:
        (folder / "shard.pt").write_bytes(self.state)
        if self.fails_after_write:
            raise OSError("the power went")

    def load_shards(self, folder: Path, is_universal: bool) -> None:
        self.state = (folder / "shard.pt").read_bytes()


def save(shards: Shards, folder: Path, position: Position, table: config.Checkpoint = KEEP) -> Path:
    shards.state = f"state of step {position.step}".encode()
    return checkpoint.save(cast(Engine, shards), folder, position, IDENTITY, table)


def load(folder: Path) -> tuple[Position, bytes]:
    shards = Shards()
    return checkpoint.load_newest(cast(Engine, shards), folder, IDENTITY), shards.state


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_saved_starts_at_step_0(tmp_path: Path) -> None:
    assert load(tmp_path / "checkpoints") == (Position(), b"")


def test_round_trip_with_position_and_random_state(tmp_path: Path) -> None:
    saved = Position(step=7, tokens=700, targets=90, best_score=-1.5, best_step=7)
    torch.manual_seed(1)
    path = save(Shards(), tmp_path, saved)
    drawn = torch.rand(3)
    torch.manual_seed(99)
    assert load(tmp_path) == (saved, b"state of step 7")
    assert torch.equal(torch.rand(3), drawn)
    assert names(tmp_path) == ["LATEST", "step-00000007"]
    assert (tmp_path / "LATEST").read_text() == "step-00000007\n"
    manifest = json.loads((path / "MANIFEST.json").read_text())
    assert set(manifest["files"]) == {"shard.pt", "rng-00000.pt"}
    assert manifest["files"]["shard.pt"]["bytes"] == len(b"state of step 7")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda p: truncate(p / "shard.pt"), "has 15 bytes, the manifest says 16"),
        (lambda p: flip_bit(p / "shard.pt"), "content of shard.pt does not match its hash"),
        (lambda p: flip_bit(p / "rng-00000.pt"), "content of rng-00000.pt"),
        (lambda p: (p / "shard.pt").unlink(), "shard.pt is missing"),
        (lambda p: truncate(p / "MANIFEST.json") or truncate(p / "MANIFEST.json"), "unusable"),
        (lambda p: (p / "MANIFEST.json").unlink(), "unusable"),
        (lambda p: (p / "MANIFEST.json").write_text("[]"), "unusable"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    damage: Callable[[Path], Any], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(Shards(), tmp_path, Position(step=10))
    damage(save(Shards(), tmp_path, Position(step=20)))
    assert load(tmp_path) == (Position(step=10), b"state of step 10")
    assert "step-00000020 is damaged and not used" in caplog.text
    assert told in caplog.text


def test_all_damaged_is_an_error_not_a_silent_restart(tmp_path: Path) -> None:
    flip_bit(save(Shards(), tmp_path, Position(step=10)) / "shard.pt")
    with pytest.raises(DataError, match=r"all 1 checkpoints .* are damaged"):
        load(tmp_path)


def test_a_save_that_dies_leaves_the_one_before(tmp_path: Path) -> None:
    save(Shards(), tmp_path, Position(step=10))
    dying = Shards()
    dying.fails_after_write = True
    with pytest.raises(OSError, match="power"):
        save(dying, tmp_path, Position(step=20))
    assert "step-00000020.tmp" in names(tmp_path)
    assert load(tmp_path)[0].step == 10
    save(Shards(), tmp_path, Position(step=20))  # the next save clears the leftovers
    assert names(tmp_path) == ["LATEST", "step-00000010", "step-00000020"]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(Shards(), tmp_path, Position(step=10))
    save(Shards(), tmp_path, Position(step=10, tokens=5))
    assert load(tmp_path)[0].tokens == 5
    assert names(tmp_path) == ["LATEST", "step-00000010"]


def test_keeps_the_last_two_the_best_and_every_third(tmp_path: Path) -> None:
    table = config.Checkpoint(keep_last=2, keep_best=True, keep_every_steps=3)
    position = Position(best_step=2)
    for step in range(1, 9):
        save(Shards(), tmp_path, replace(position, step=step), table)
    assert checkpoint.steps(tmp_path) == [2, 3, 6, 7, 8]


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        ({"model": "other", "data": "d"}, "another model;"),
        ({"model": "m"}, "another data;"),
        ({"model": "x", "data": "y"}, "another data and model;"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    identity: dict[str, str], told: str, tmp_path: Path
) -> None:
    save(Shards(), tmp_path, Position(step=10))
    shards = Shards()
    with pytest.raises(DataError, match=told):
        checkpoint.load_newest(cast(Engine, shards), tmp_path, identity)
    assert shards.state == b""  # refused before anything was read


def test_another_stage_is_refused(tmp_path: Path) -> None:
    save(Shards(), tmp_path, Position(step=10))
    shards = Shards()
    shards.stage = 1
    with pytest.raises(DataError, match="ZeRO stage 3, this run uses stage 1"):
        checkpoint.load_newest(cast(Engine, shards), tmp_path, IDENTITY)


def test_disk_need_is_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=63_999_999))
    checkpoint.check_disk(tmp_path, 999_999, KEEP)
    with pytest.raises(DiskError, match=r"4 checkpoints of 1,000,000 parameters need about 0.1 GB"):
        checkpoint.check_disk(tmp_path, 1_000_000, KEEP)
