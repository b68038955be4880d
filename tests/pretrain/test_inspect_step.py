"""inspect-step shows what was trained on, from the run folder alone, or nothing."""

import json
import re
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.shards import Corpus
from pretrain import inspect_step
from pretrain.batches import MixtureBatches, phase_data
from pretrain.budget import budget_of
from pretrain.config import Recipe
from pretrain.inspect_step import Marker
from pretrain.ledger import Ledger
from pretrain.masker import Masker
from runtime import provenance, recipe
from runtime.errors import DataError

STEPS, WORLD_SIZE = 3, 2


@pytest.fixture
def run(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What 3 steps of 2 ranks leave behind, the last of them after passing over 4 steps."""
    monkeypatch.chdir(workplace)
    checked = recipe.load(Path("recipe.toml"), ("objective.mask_share=0.4",), Recipe)
    assert checked.train is not None
    folder = workplace / "run/pretrain"
    provenance.record_start(folder, recipe.to_toml(checked))
    corpus = Corpus(workplace / "run/data")
    budget = budget_of(checked.train, corpus.sequence_length)
    data = phase_data(checked, budget, corpus, folder)
    masker = Masker(corpus, checked.objective, checked.seed, 0)
    for rank in range(WORLD_SIZE):
        batches = MixtureBatches(masker, data, budget, rank, WORLD_SIZE)
        with Ledger(folder, 0, rank) as ledger:
            for step, data_step in zip(range(1, STEPS + 1), (0, 1, 6), strict=True):
                inputs = batches.micro_batches(data_step)
                ledger.write(step, 5.0, 1.0, 3e-4, inputs, None, data_step)
    monkeypatch.chdir(workplace.parent)
    return workplace / "run"


def shown(run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    parser = ArgumentParser()
    inspect_step.add_arguments(parser)
    inspect_step.inspect(parser.parse_args([str(run), *arguments]))
    return capsys.readouterr().out


def read(run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    return dict(json.loads(shown(run, capsys, *arguments, "--json")))


def unmarked(text: str) -> str:
    """The text as it was before masking."""
    return re.sub(r"\{([^{}>=]*)(>[^{}]*|=)?\}", r"\1", text)


def test_texts_of_a_step_are_those_of_its_documents(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read(run, capsys, "1")
    assert (found["step"], found["data_step"], found["is_verified"]) == (1, 0, True)
    assert (found["loss"], found["learning_rate"]) == (5.0, 3e-4)
    assert len(found["samples"]) == 16
    texts = {
        name: [
            json.loads(line)["text"]
            for line in (run.parent / f"{name}.jsonl").read_text().splitlines()
        ]
        for name in ("plants", "ships")
    }
    for sample in found["samples"]:
        assert sample["segments"]
        for segment in sample["segments"]:
            text = unmarked(segment["text"])
            assert any(text in whole for whole in texts[sample["source"]]), segment["text"]
        marks = sum(len(re.findall(r"\{", segment["text"])) for segment in sample["segments"])
        assert marks == sample["num_targets"] > 0


def test_each_rank_has_its_own_samples(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = read(run, capsys, "2")["samples"]
    parts = [read(run, capsys, "2", "--rank", str(rank))["samples"] for rank in range(2)]
    assert [len(part) for part in parts] == [8, 8]
    assert sorted(map(str, whole)) == sorted(map(str, parts[0] + parts[1]))
    with pytest.raises(DataError, match="step 2 is in the ledger of 0, 1, not of 2"):
        read(run, capsys, "2", "--rank", "2")


def test_data_that_was_passed_over_is_respected(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(run, capsys, "3")["data_step"] == 6
    ahead = read(run, capsys, "7")  # not done yet: step 7 of an undisturbed run
    assert (ahead["data_step"], ahead["is_verified"]) == (6, False)
    third = read(run, capsys, "3")["samples"]
    assert [{**sample, "rank": None} for sample in third] == ahead["samples"]


def test_people_see_header_samples_and_documents(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(run, capsys, "1")
    first, second, *_ = text.splitlines()
    assert first == "step 1 (data step 0): loss 5, gradient norm 1, learning rate 0.0003, applied"
    assert second.startswith("its samples have the hashes of the ledger")
    assert re.search(r"\n(plants|ships) sample \d+  epoch 0  rank [01]  \d+ targets\n", text)
    assert re.search(r"\n-- segment 1/\d+  \d+ tokens  document [0-9a-f]{16}\n", text)
    assert "step 9 is not in the ledger: what it would train on" in shown(run, capsys, "9")


def test_nothing_is_shown_that_was_not_trained_on(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "pretrain/recipe.toml"
    text = path.read_text()
    path.write_text(text.replace("mask_share = 0.4", "mask_share = 0.3"))
    with pytest.raises(DataError, match="4 of 4 micro batches that were trained on at step 1"):
        shown(run, capsys, "1")
    path.unlink()
    with pytest.raises(DataError, match=r"holds no recipe\.toml; give the `output`"):
        shown(run, capsys, "1")


def test_a_refused_step_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "pretrain/ledger/rank-00000.jsonl"
    record = json.loads(path.read_text().splitlines()[1])
    record |= {"loss": "nan", "gradient_norm": "inf", "refused": "loss nan"}
    path.write_text(json.dumps(record) + "\n")
    first = shown(run, capsys, "2").splitlines()[0]
    assert first.startswith("step 2 (data step 1): loss nan, gradient norm inf, learning rate")
    assert first.endswith("not applied (loss nan)")
    found = read(run, capsys, "2")
    assert (found["loss"], found["gradient_norm"], found["refused"]) == ("nan", "inf", "loss nan")


def test_steps_count_from_1(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="steps count from 1; given 0"):
        shown(run, capsys, "0")


def test_marks_by_hand(prepared: Path) -> None:
    facts = Corpus(prepared / "run/data").tokenizer
    marker = Marker(facts)
    ids = marker.tokenizer.encode("moss oak leaf").ids
    inner = [id for id in ids if id not in facts.special_ids]
    stored = np.array([facts.cls_id, *inner, facts.sep_id])
    assert marker.text(stored, stored, np.zeros(len(stored), bool)) == "moss oak leaf"
    assert len(inner) == 3
    seen, is_target = stored.copy(), np.array([False, True, False, True, False])
    seen[1] = facts.mask_id
    assert marker.text(stored, seen, is_target) == "{moss} oak {leaf=}"
    seen[3] = inner[1]
    assert marker.text(stored, seen, is_target) == "{moss} oak {leaf>oak}"
