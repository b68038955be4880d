"""Stopped, killed, damaged, moved to other ranks: a run continues exactly where it was.

Real ranks of `python -m pretrain` under ZeRO-3, bf16, dropout on. The uninterrupted run is the
reference; its losses and gradient norms are compared as written, its weights byte for byte.
"""

import json
import math
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.ranks import Finished, Rank, run_ranks, wait_for

pytestmark = pytest.mark.distributed
RUN = ["-m", "pretrain", "recipe.toml"]
EXACT = ("loss/train", "optim/gradient_norm", "optim/learning_rate", "data/tokens", "loss/valid")


def start(folder: Path, world_size: int = 2, *overrides: str, **how: object) -> Finished:
    return run_ranks([*RUN, *overrides], world_size, folder, **how)  # type: ignore[arg-type]


def ledger(folder: Path) -> dict[int, dict[str, float]]:
    """The metrics that must not change, by step."""
    lines = (folder / "run/pretrain/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    found = {r["step"]: {tag: r[tag] for tag in EXACT if tag in r} for r in records}
    assert len(found) == len(records), "a step is reported twice"
    return found


def weights(folder: Path) -> bytes:
    return (folder / "run/pretrain/export/model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def straight(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run: 12 steps on 2 ranks, checkpoints at 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("straight") / "workplace"
    shutil.copytree(prepared, folder)
    # The others are forked from a process that has imported everything: their equality with this
    # one is also what shows that forked ranks compute the same.
    done = start(folder, fresh=True)
    assert done.exit_codes == [0, 0], done.text
    return folder


def assert_same(folder: Path, straight: Path) -> None:
    assert ledger(folder) == ledger(straight)
    assert weights(folder) == weights(straight)


def unfinished_copy(straight: Path, tmp_path: Path) -> Path:
    """The straight run with its checkpoints, before export and manifest were written."""
    folder = tmp_path / "workplace"
    shutil.copytree(straight, folder)
    (folder / "run/pretrain/manifest.json").unlink()
    shutil.rmtree(folder / "run/pretrain/export")
    return folder


def test_the_straight_run_learns_and_is_complete(straight: Path) -> None:
    steps = ledger(straight)
    assert sorted(steps) == list(range(13))
    assert math.log(448) - 0.3 < steps[0]["loss/valid"] < math.log(448) + 0.5
    assert steps[12]["loss/valid"] < steps[0]["loss/valid"] - 0.1
    manifest = json.loads((straight / "run/pretrain/manifest.json").read_text())
    assert manifest["position"]["step"] == 12
    names = sorted(path.name for path in (straight / "run/pretrain/checkpoints").iterdir())
    assert names == ["LATEST", "step-00000004", "step-00000008", "step-00000012"]


def test_a_finished_run_does_nothing_more(straight: Path) -> None:
    before = (straight / "run/pretrain/manifest.json").read_bytes()
    done = start(straight, 1)
    assert done.exit_codes == [0]
    assert "up to date" in done.text
    assert (straight / "run/pretrain/manifest.json").read_bytes() == before


def test_killed_and_resumed_is_bit_exact(straight: Path, workplace: Path) -> None:
    def kill_one(processes: Sequence[Rank]) -> None:
        saved = workplace / "run/pretrain/checkpoints/step-00000004"
        wait_for(saved.is_dir, "the first checkpoint")
        processes[1].kill()

    killed = start(workplace, when_running=kill_one)
    assert killed.exit_codes[1] == -signal.SIGKILL
    assert killed.exit_codes[0] != 0
    assert not (workplace / "run/pretrain/manifest.json").exists()
    resumed = start(workplace)
    assert resumed.exit_codes == [0, 0], resumed.text
    assert_same(workplace, straight)


def test_stopped_on_one_rank_saves_on_all_and_resumes_bit_exact(
    straight: Path, workplace: Path
) -> None:
    metrics = workplace / "run/pretrain/metrics.jsonl"

    def stop_one(processes: Sequence[Rank]) -> None:
        wait_for(lambda: metrics.is_file() and metrics.stat().st_size > 0, "training to begin")
        processes[1].send_signal(signal.SIGTERM)

    stopped = start(workplace, when_running=stop_one)
    assert stopped.exit_codes == [75, 75], stopped.text
    assert "run the same command again to continue" in stopped.text
    last = max(ledger(workplace))
    assert 0 < last < 12
    assert (workplace / f"run/pretrain/checkpoints/step-{last:08d}").is_dir()  # no step is lost
    resumed = start(workplace)
    assert resumed.exit_codes == [0, 0], resumed.text
    assert_same(workplace, straight)


def test_a_damaged_shard_is_refused_and_the_checkpoint_before_gives_the_same_result(
    straight: Path, tmp_path: Path
) -> None:
    folder = unfinished_copy(straight, tmp_path)
    newest = folder / "run/pretrain/checkpoints/step-00000012"
    shard = next(newest.glob("*optim_states.pt"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(bytes(content))
    resumed = start(folder)
    assert resumed.exit_codes == [0, 0], resumed.text
    assert "step-00000012 is damaged and not used" in resumed.text
    assert_same(folder, straight)


def test_another_number_of_ranks_sees_the_same_order(straight: Path, tmp_path: Path) -> None:
    """2 -> 1 ranks through a universal checkpoint: the same tokens, nearly the same losses."""
    folder = unfinished_copy(straight, tmp_path)
    shutil.rmtree(folder / "run/pretrain/checkpoints/step-00000012")
    resumed = start(folder, 1)
    assert resumed.exit_codes == [0], resumed.text
    assert "saved by 2 ranks and is converted for 1" in resumed.text
    ours, theirs = ledger(folder), ledger(straight)
    assert [ours[step]["data/tokens"] for step in range(1, 13)] == [
        theirs[step]["data/tokens"] for step in range(1, 13)
    ]
    for step in range(9, 13):  # other dropout masks
        assert ours[step]["loss/train"] == pytest.approx(theirs[step]["loss/train"], abs=0.05)


def test_a_checkpoint_of_another_model_is_refused(straight: Path, tmp_path: Path) -> None:
    folder = unfinished_copy(straight, tmp_path)
    done = start(folder, 2, "model.num_layers=2")
    assert done.exit_codes == [3, 3], done.text
    assert "was made with another model" in done.text
    assert not (folder / "run/pretrain/export").exists()
