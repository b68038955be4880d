"""The checkpoint protocol on files: whole or absent, verified before use, pruned as asked.

The engine here writes plain bytes; real shards under real ranks are at the end and in
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

from runtime import checkpoint, config, retention, seals
from runtime.checkpoint import Position
from runtime.engine import Engine
from runtime.errors import DataError, DiskError
from tests.ranks import run_ranks
from tests.small_disk import small_disk

__all__ = ["small_disk"]  # a fixture

KEEP = config.Checkpoint(interval_steps=1, keep_last=2, keep_best=True)
IDENTITY = {
    "model": {"num_layers": 3, "dropout": 0.1},
    "train": {"global_batch_size": 16},
    "optimizer": {"name": "adamw", "betas": (0.9, 0.98)},
    "data": "d",
}


class Shards:
    """Stands for an engine: its state is one file."""

    stage = 3

    def __init__(self) -> None:
        self.state = b""

    def num_parameters(self) -> int:
        return 4

    def save_shards(self, folder: Path) -> None:
        (folder / "shard.pt").write_bytes(self.state)

    def load_shards(self, folder: Path, is_universal: bool) -> None:
        self.state = (folder / "shard.pt").read_bytes()


def save(shards: Shards, folder: Path, position: Position, table: config.Checkpoint = KEEP) -> Path:
    shards.state = f"state of step {position.step}".encode()
    return checkpoint.save(cast(Engine, shards), folder, position, IDENTITY, table).path


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


def test_a_killed_save_leaves_the_one_before(tmp_path: Path) -> None:
    save(Shards(), tmp_path, Position(step=10))
    torn = tmp_path / "step-00000020.tmp"  # what a kill in the middle of a save leaves
    torn.mkdir()
    (torn / "shard.pt").write_bytes(b"sta")
    assert load(tmp_path)[0].step == 10
    save(Shards(), tmp_path, Position(step=20))  # the next save clears the leftovers
    assert names(tmp_path) == ["LATEST", "step-00000010", "step-00000020"]


def test_a_save_says_what_it_cost(tmp_path: Path) -> None:
    shards = cast(Engine, Shards())
    saved = checkpoint.save(shards, tmp_path, Position(step=10), IDENTITY, KEEP)
    files = [path for path in saved.path.iterdir() if path.name != "MANIFEST.json"]
    assert saved.num_bytes == sum(path.stat().st_size for path in files)
    assert 0 < saved.seconds < 10


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(Shards(), tmp_path, Position(step=10))
    save(Shards(), tmp_path, Position(step=10, tokens=5))
    assert load(tmp_path)[0].tokens == 5
    assert names(tmp_path) == ["LATEST", "step-00000010"]


def test_keeps_the_last_two_the_best_and_every_third(tmp_path: Path) -> None:
    table = config.Checkpoint(interval_steps=1, keep_last=2, keep_every_steps=3)
    position = Position(best_step=2)
    for step in range(1, 9):
        save(Shards(), tmp_path, replace(position, step=step), table)
    assert retention.steps(tmp_path) == [2, 3, 6, 7, 8]


def test_a_stop_between_two_intervals_does_not_push_out_a_regular_checkpoint(
    tmp_path: Path,
) -> None:
    """The last two of an uninterrupted run are 20 and 30; a stop at 25 must leave both."""
    table = config.Checkpoint(interval_steps=10, keep_last=2, keep_best=False)
    for step in (10, 20, 25):
        save(Shards(), tmp_path, Position(step=step), table)
    assert retention.steps(tmp_path) == [10, 20, 25]
    save(Shards(), tmp_path, Position(step=30), table)
    assert retention.steps(tmp_path) == [20, 30]


def test_a_damaged_checkpoint_that_was_passed_over_does_not_count_as_one_of_the_last(
    tmp_path: Path,
) -> None:
    table = config.Checkpoint(interval_steps=10, keep_last=1, keep_best=False)
    save(Shards(), tmp_path, Position(step=10), table)
    flip_bit(save(Shards(), tmp_path, Position(step=30), KEEP) / "shard.pt")
    assert load(tmp_path)[0].step == 10
    assert names(tmp_path) == ["LATEST", "step-00000010", "step-00000030.damaged"]
    save(Shards(), tmp_path, Position(step=20), table)
    assert names(tmp_path) == ["LATEST", "step-00000020"]


def test_going_back_deletes_what_came_later_but_never_the_last_one(tmp_path: Path) -> None:
    for step in (10, 20):
        save(Shards(), tmp_path, Position(step=step))
    checkpoint.discard_after(tmp_path, 15)
    assert retention.steps(tmp_path) == [10]
    checkpoint.discard_after(tmp_path, 5)
    assert retention.steps(tmp_path) == [10]


def changed(**tables: object) -> dict[str, object]:
    return {**IDENTITY, **tables}


def test_a_checkpoint_of_another_recipe_is_refused_with_the_differences(tmp_path: Path) -> None:
    save(Shards(), tmp_path, Position(step=10))
    shards = Shards()
    identity = changed(train={"global_batch_size": 32}, data=None)
    with pytest.raises(DataError) as refused:
        checkpoint.load_newest(cast(Engine, shards), tmp_path, identity)
    assert shards.state == b""  # refused before anything was read
    assert str(refused.value).splitlines() == [
        f"the checkpoint {tmp_path}/step-00000010 was made with another data and train "
        "(saved -> this run):",
        '  data: "d" -> (not set)',
        "  train.global_batch_size: 16 -> 32",
        "restore them, set another `output` to start anew, or continue all the same with "
        "--accept-drift",
    ]


def test_accepted_drift_is_recorded_in_the_run_and_in_later_checkpoints(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(Shards(), tmp_path, Position(step=10))
    identity = changed(train={"global_batch_size": 32})
    shards = cast(Engine, Shards())
    position = checkpoint.load_newest(shards, tmp_path, identity, accepts_drift=True)
    changes = {"train.global_batch_size": [16, 32]}
    assert [(e["step"], e["changes"]) for e in position.drift] == [(10, changes)]
    assert json.loads((tmp_path / "drift.json").read_text()) == position.drift
    assert "the recipe changed at step 10" in caplog.text
    assert "train.global_batch_size: 16 -> 32" in caplog.text
    saved = checkpoint.save(shards, tmp_path, replace(position, step=20), identity, KEEP)
    manifest = json.loads((saved.path / "MANIFEST.json").read_text())
    assert manifest["position"]["drift"] == position.drift
    again = checkpoint.load_newest(shards, tmp_path, identity)  # no flag: it is the run's recipe
    assert again.drift == position.drift
    back = checkpoint.load_newest(shards, tmp_path, IDENTITY, accepts_drift=True)
    assert [entry["step"] for entry in back.drift] == [10, 20]
    shutil.rmtree(saved.path)  # with the checkpoint goes the drift
    assert checkpoint.load_newest(shards, tmp_path, IDENTITY).drift == []
    assert not (tmp_path / "drift.json").exists()


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        (
            {"model": {"num_layers": 2, "dropout": 0.1}},
            "model.num_layers: 3 -> 2  (cannot be accepted: weights do not fit another model)",
        ),
        (
            {"optimizer": {"name": "muon", "betas": (0.9, 0.98)}},
            "(cannot be accepted: moments mean nothing",
        ),
        ({"tokenizer": "t"}, 'tokenizer: (not set) -> "t"  (cannot be accepted'),
    ],
)
def test_what_no_flag_can_accept(tables: dict[str, object], told: str, tmp_path: Path) -> None:
    save(Shards(), tmp_path, Position(step=10))
    shards = cast(Engine, Shards())
    with pytest.raises(DataError) as refused:
        checkpoint.load_newest(shards, tmp_path, changed(**tables), accepts_drift=True)
    assert told in str(refused.value)
    assert "--accept-drift" not in str(refused.value)


def test_a_field_that_is_new_and_unset_is_no_drift(tmp_path: Path) -> None:
    save(Shards(), tmp_path, Position(step=10))
    identity = changed(train={"global_batch_size": 16, "ramp_from": None})
    shards = cast(Engine, Shards())
    assert checkpoint.load_newest(shards, tmp_path, identity).step == 10


def edit_manifest(path: Path, **fields: object) -> None:
    """What another version of Textmill would have written."""
    manifest = json.loads((path / "MANIFEST.json").read_text()) | fields
    if manifest["version"] < 3:
        manifest.pop("fingerprint", None)
        (path / "MANIFEST.json").write_text(json.dumps(manifest))
    else:
        seals.write_manifest(path, manifest)


def test_a_checkpoint_of_format_version_1_loads(tmp_path: Path) -> None:
    """Fingerprints of tables instead of the tables, and a position of fewer fields."""
    path = save(Shards(), tmp_path, Position(step=10))
    position = {
        "step": 10, "tokens": 5, "targets": 2, "best_score": None, "best_step": None,
        "evaluations_since_best": 0,
    }  # fmt: skip
    identity = {"model": "xxh3:1", "data": "d", "order of samples": "xxh3:2"}
    edit_manifest(path, version=1, position=position, identity=identity)
    assert load(tmp_path)[0] == Position(step=10, tokens=5, targets=2)
    edit_manifest(path, identity={**identity, "data": "other"})
    with pytest.raises(DataError, match='data: "other" -> "d"'):
        load(tmp_path)


@pytest.mark.parametrize(
    "fields", [{"version": 4}, {"version": 0}, {"format": "another-checkpoint"}]
)
def test_a_format_this_version_does_not_read_is_an_error_not_damage(
    fields: dict[str, object], tmp_path: Path
) -> None:
    save(Shards(), tmp_path, Position(step=10))
    edit_manifest(save(Shards(), tmp_path, Position(step=20)), **fields)
    with pytest.raises(DataError, match=r"step-00000020 has format .* reads .* versions 1 to 3"):
        load(tmp_path)


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
    with pytest.raises(DiskError, match=r"4 checkpoints of 1,000,000 parameters .* 64.0 MB, "):
        checkpoint.check_disk(tmp_path, 1_000_000, KEEP)
    with pytest.raises(DiskError, match=r"4 checkpoints and 3 exports of 990,000 parameters"):
        checkpoint.check_disk(tmp_path, 990_000, KEEP, num_exports=3)


class Large(Shards):
    """Shards of a stated size, whatever the room."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def save_shards(self, folder: Path) -> None:
        (folder / "shard.pt").write_bytes(b"x" * self.size)


def save_large(folder: Path, size: int, position: Position) -> None:
    table = config.Checkpoint(interval_steps=1, keep_last=5)
    checkpoint.save(cast(Engine, Large(size)), folder, position, IDENTITY, table)


def test_older_checkpoints_give_way_when_the_disk_is_nearly_full(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (10, 20, 30):
        save_large(small_disk, 300_000, Position(step=step, best_step=10))
    save_large(small_disk, 300_000, Position(step=40, best_step=10))
    assert retention.steps(small_disk) == [10, 30, 40]  # the best is given up last
    assert "the one of step 20 is deleted early" in caplog.text
    save_large(small_disk, 300_000, Position(step=50, best_step=10))
    assert retention.steps(small_disk) == [10, 40, 50]


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(small_disk: Path) -> None:
    save_large(small_disk, 300_000, Position(step=10))
    (small_disk / "foreign").write_bytes(bytes(700_000))
    with pytest.raises(DiskError, match=r"needs 0.3 MB.* has 0.0 MB free.*of step 10, is intact"):
        save_large(small_disk, 300_000, Position(step=20))
    assert load(small_disk)[0].step == 10


def test_a_write_that_fails_in_the_middle_keeps_the_last_checkpoint(small_disk: Path) -> None:
    save_large(small_disk, 300_000, Position(step=10))
    with pytest.raises(DiskError, match=r"no checkpoint of step 20 .*No space left.*step 10, is"):
        save_large(small_disk, 900_000, Position(step=20))  # three times what was forecast
    assert names(small_disk) == ["LATEST", "step-00000010"]
    assert load(small_disk)[0].step == 10
    save_large(small_disk, 300_000, Position(step=20))


@pytest.mark.distributed
def test_a_write_that_fails_on_one_rank_ends_all_of_them_with_the_checkpoint_before(
    tmp_path: Path,
) -> None:
    script = Path(__file__).parent / "checkpoint_ranks.py"
    done = run_ranks([script, tmp_path / "checkpoints"], 2, tmp_path)
    assert done.exit_codes == [7, 7], done.text
    assert done.text.count("rank 1: ") == 2, done.text  # both ranks name the one that failed
    assert done.text.count("the last checkpoint, of step 1, is intact and was loaded") == 2
