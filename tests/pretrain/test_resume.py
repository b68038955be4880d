"""Stopped, killed, damaged, moved to other ranks: a run continues exactly where it was.

Real ranks of `python -m pretrain`, dropout on. The uninterrupted run is the reference; ledgers are
compared byte for byte (loss, gradient norm and learning rate with every bit, the hash of all that
entered the model), and so are the exported weights.
"""

import json
import math
import shutil
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from data_prep.mixture import Mixture, shares_of
from data_prep.shards import Corpus
from pretrain import inspect_step
from pretrain.batches import MixtureBatches, of_phase
from pretrain.budget import budget_of
from pretrain.config import Objective, Train
from pretrain.masker import Masker
from tests.pretrain.runs import (
    assert_same,
    finished,
    hashes,
    kill_after,
    ledgers,
    metrics,
    records,
    stage,
    start,
    stop_after,
)
from tests.ranks import Rank, wait_for

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def prepared(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the precision that a recipe has by default."""
    folder = tmp_path_factory.mktemp("bf16") / "prepared"
    shutil.copytree(prepared, folder)
    path = folder / "recipe.toml"
    text = path.read_text(encoding="utf-8")
    assert 'precision = "fp32"' in text
    path.write_text(text.replace('precision = "fp32"', 'precision = "bf16"'), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def straight(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run, ZeRO-3 in bf16: 12 steps on 2 ranks, checkpoints at 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("straight") / "workplace"
    shutil.copytree(prepared, folder)
    # The others are forked from a process that has imported everything: their equality with this
    # one is also what shows that forked ranks compute the same.
    finished(folder, fresh=True)
    return folder


def unfinished_copy(straight: Path, tmp_path: Path) -> Path:
    """The straight run with its checkpoints, before export and manifest were written."""
    folder = tmp_path / "workplace"
    shutil.copytree(straight, folder)
    (stage(folder) / "manifest.json").unlink()
    shutil.rmtree(stage(folder) / "export")
    return folder


def test_the_straight_run_learns_and_is_complete(straight: Path) -> None:
    logged = {record["step"]: record for record in metrics(straight)}
    assert list(logged) == list(range(13))
    assert math.log(448) - 0.3 < logged[0]["loss/valid"] < math.log(448) + 0.5
    assert logged[12]["loss/valid"] < logged[0]["loss/valid"] - 0.1
    manifest = json.loads((stage(straight) / "manifest.json").read_text())
    assert manifest["position"]["step"] == 12
    names = {path.name for path in (stage(straight) / "checkpoints").iterdir()}
    assert {"LATEST", "step-00000004", "step-00000008", "step-00000012"} <= names


def test_the_ledger_says_what_the_metrics_say_on_every_rank(straight: Path) -> None:
    assert list(ledgers(straight)) == ["rank-00000.jsonl", "rank-00001.jsonl"]
    first, second = records(straight), records(straight, 1)
    assert [record["step"] for record in first] == list(range(1, 13))
    for ours, theirs, logged in zip(first, second, metrics(straight)[1:], strict=True):
        assert float.fromhex(ours["loss"]) == logged["loss/train"]
        assert float.fromhex(ours["gradient_norm"]) == logged["optim/gradient_norm"]
        assert ours["data_step"] == ours["step"] - 1
        hashed = ours.pop("micro_batches"), theirs.pop("micro_batches")
        assert len({*hashed[0], *hashed[1]}) == 4  # 2 ranks x 2 micro batches, all different
        assert ours == theirs


def test_the_texts_of_any_step_can_be_shown(
    straight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the folder of the run alone; what real ranks hashed is what is shown."""
    parser = ArgumentParser()
    inspect_step.add_arguments(parser)
    for step in ("1", "12"):
        inspect_step.inspect(parser.parse_args([str(straight / "run"), step, "--json"]))
        found = json.loads(capsys.readouterr().out)
        assert found["is_verified"]
        assert len(found["samples"]) == 16


def test_a_finished_run_does_nothing_more(straight: Path) -> None:
    before = (stage(straight) / "manifest.json").read_bytes()
    done = finished(straight, 1)
    assert "up to date" in done.text
    assert (stage(straight) / "manifest.json").read_bytes() == before


def test_killed_while_training_and_resumed_is_bit_exact(straight: Path, workplace: Path) -> None:
    def kill_one(ranks: Sequence[Rank]) -> None:
        saved = stage(workplace) / "checkpoints/step-00000004"
        wait_for(saved.is_dir, "the first checkpoint")
        ranks[1].kill()

    killed = start(workplace, when_running=kill_one)
    assert killed.exit_codes[1] == -signal.SIGKILL
    assert killed.exit_codes[0] != 0
    assert not (stage(workplace) / "manifest.json").exists()
    finished(workplace)
    assert_same(workplace, straight)


@pytest.mark.parametrize(
    ("ds_config", "precision"),
    [
        ("zero0", "fp32"),
        ("zero0", "bf16"),
        ("zero1", "fp32"),
        ("zero1", "bf16"),
        ("zero2", "fp32"),
        ("zero2", "bf16"),
        ("cpu", "fp32"),
    ],
)
def test_killed_at_any_instant_and_resumed_is_bit_exact(
    ds_config: str, precision: str, prepared: Path, tmp_path: Path
) -> None:
    """ZeRO 0 to 3 in both precisions; `cpu` is ZeRO-3, which the test above covers in bf16."""
    how = (
        f'engine.ds_config="{ds_config}"', f'engine.precision="{precision}"',
        "train.total_tokens=8192", "checkpoint.interval_steps=2",
    )  # fmt: skip
    uninterrupted, interrupted = tmp_path / "uninterrupted", tmp_path / "interrupted"
    for folder in (uninterrupted, interrupted):
        shutil.copytree(prepared, folder)
    finished(uninterrupted, 2, *how)
    logged = metrics(uninterrupted)
    seconds = logged[-1]["time"] - logged[0]["time"]
    start(interrupted, 2, *how, when_running=kill_after(interrupted, 0, seconds))
    finished(interrupted, 2, *how)  # from wherever it was killed; nothing to do if it was done
    assert_same(interrupted, uninterrupted)


def test_stopped_on_one_rank_saves_on_all_and_resumes_bit_exact(
    straight: Path, workplace: Path
) -> None:
    stopped = start(workplace, when_running=stop_after(workplace, 0))
    assert stopped.exit_codes == [75, 75], stopped.text
    assert "run the same command again to continue" in stopped.text
    last = records(workplace)[-1]["step"]
    assert 0 < last < 12
    assert (stage(workplace) / f"checkpoints/step-{last:08d}").is_dir()  # no step is lost
    finished(workplace)
    assert_same(workplace, straight)


def test_a_damaged_shard_is_refused_and_the_checkpoint_before_gives_the_same_result(
    straight: Path, tmp_path: Path
) -> None:
    folder = unfinished_copy(straight, tmp_path)
    newest = stage(folder) / "checkpoints/step-00000012"
    shard = next(newest.glob("*optim_states.pt"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(bytes(content))
    resumed = finished(folder)
    assert "step-00000012 is damaged and not used" in resumed.text
    assert_same(folder, straight)


def test_other_numbers_of_ranks_see_the_same_order_and_nearly_the_same_losses(
    prepared: Path, tmp_path: Path
) -> None:
    """1, 2, 3 and again 2 ranks under ZeRO-3 in fp32, without dropout: its masks would differ."""
    how = (
        'engine.precision="fp32"', "model.dropout=0.0", "train.global_batch_size=24",
        "train.total_tokens=18432", "checkpoint.interval_steps=3", "train.validation_samples=1",
    )  # fmt: skip
    alone, moved = tmp_path / "alone", tmp_path / "moved"
    for folder in (alone, moved):
        shutil.copytree(prepared, folder)
    finished(alone, 1, *how)
    texts, steps = [], [0]
    for world_size, step in ((1, 1), (2, 4), (3, 7)):
        stopped = start(moved, world_size, *how, when_running=stop_after(moved, step))
        assert stopped.exit_codes == [75] * world_size, stopped.text
        texts.append(stopped.text)
        steps.append(records(moved)[-1]["step"])
    texts.append(finished(moved, 2, *how).text)
    assert steps == sorted(set(steps)), "every start must have done steps"
    assert [text.count("is converted for") for text in texts] == [0, 1, 1, 1]
    assert hashes(moved) == hashes(alone)
    for ours, theirs in zip(records(moved), records(alone), strict=True):
        assert ours["learning_rate"] == theirs["learning_rate"]
        expected = float.fromhex(theirs["loss"])
        assert float.fromhex(ours["loss"]) == pytest.approx(expected, rel=1e-6)


def test_a_checkpoint_of_another_model_is_refused(straight: Path, tmp_path: Path) -> None:
    folder = unfinished_copy(straight, tmp_path)
    done = start(folder, 2, "model.num_layers=2")
    assert done.exit_codes == [3, 3], done.text
    assert "model.num_layers" in done.text
    assert not (stage(folder) / "export").exists()


def test_the_batch_of_any_step_costs_what_the_first_costs(prepared: Path) -> None:
    """A resume computes where it is: no index is read or built, no sample passed over. Counted in
    lines of Python, which other work on the machine cannot change."""
    corpus = Corpus(prepared / "run/data")
    train = Train(total_tokens=1 << 40, global_batch_size=16, micro_batch_size=4)
    budget = budget_of(train, corpus.sequence_length)
    data = [of_phase(0, corpus, shares_of(Mixture(), corpus), seed=1)]
    batches = MixtureBatches(Masker(corpus, Objective(), 1, 0), data, budget, 0, 2)

    def lines(step: int) -> int:
        count = 0

        def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            batches.micro_batches(step)
        finally:
            sys.settrace(before)
        return count

    lines(0)  # what is read once: the tokenizer, the files that are mapped
    assert max(map(lines, (10**6, 10**7))) < 1.5 * lines(1)
