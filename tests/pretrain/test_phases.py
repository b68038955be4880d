"""What phases draw from: their sources, what max_epochs leaves them, and shards of their length."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data_prep.mixture import Mixture, Shares, sample_order
from data_prep.schedule import schedule
from data_prep.shards import Corpus
from pretrain import phases
from pretrain.budget import Budget, budget_of
from pretrain.config import Phase, Train
from runtime.errors import DataError, RecipeError
from tests.ranks import ROOT, run_ranks

HALVES = [Phase(share=0.5), Phase(share=0.5)]


def budget(of: list[Phase], steps: int = 10) -> Budget:
    """So many steps of 16 samples of 64 tokens."""
    tables = [phase.model_dump() for phase in of]
    given = {"total_tokens": steps * 16 * 64, "global_batch_size": 16, "micro_batch_size": 4}
    return budget_of(Train.model_validate(given | {"phases": tables}), 64)


def corpus(length: int = 64, **samples: int) -> Any:
    """The facts of a corpus whose sources have so many samples of the length."""
    sources = {
        name: SimpleNamespace(splits={"train": {"num_samples": it, "num_tokens": it * length}})
        for name, it in samples.items()
    }
    return SimpleNamespace(sources=sources, sequence_length=length)


def test_without_phases_the_mixture_holds() -> None:
    found = phases.shares([], Mixture(), budget([]), [corpus(wiki=300, books=100)])
    assert found == [Shares((0.75, 0.25), (None, None))]


def test_a_phase_with_weights_draws_from_the_sources_it_names() -> None:
    given = [Phase(share=0.5), Phase(share=0.5, weights={"books": 3.0, "law": 1.0})]
    both = corpus(wiki=300, books=100, law=100)
    found = phases.shares(given, Mixture(), budget(given), [both, both])
    assert found[0].weights == pytest.approx((0.6, 0.2, 0.2))
    assert found[1].weights == (0.0, 0.75, 0.25)


@pytest.mark.parametrize(
    ("name", "told"),
    [("book", "names `book`, which is not a source; did you mean `books`?"),
     ("news", "names `news`, which is not a source; the sources are: wiki, books")],
)  # fmt: skip
def test_an_unknown_source_is_refused(name: str, told: str) -> None:
    given = [Phase(share=1.0, weights={name: 1.0})]
    with pytest.raises(RecipeError) as error:
        phases.shares(given, Mixture(), budget(given), [corpus(wiki=300, books=100)])
    assert f"train.phases.0.weights {told}" in str(error.value)


def test_epochs_of_earlier_phases_count_in_later_ones() -> None:
    """80 samples a phase, half of them books: the first takes 40 of 100, which is 0.4 epochs; of
    1.25 there are 0.85 left, of 50 longer samples 42."""
    mixture = Mixture(strategy="fixed", weights={"wiki": 1.0, "books": 1.0},
                      max_epochs={"books": 1.25})  # fmt: skip
    given = [Phase(share=0.5), Phase(share=0.5, sequence_length=128)]
    both = [corpus(wiki=300, books=100), corpus(128, wiki=150, books=50)]
    found = phases.shares(given, mixture, budget(given), both)
    assert found[0].limits == (None, 125)
    assert found[1].limits == (None, 42)


def test_a_phase_for_which_nothing_is_left_is_refused() -> None:
    given = [Phase(share=0.8), Phase(share=0.2, weights={"books": 1.0})]
    mixture = Mixture(strategy="fixed", weights={"wiki": 1.0, "books": 1.0},
                      max_epochs={"books": 1.0})  # fmt: skip
    both = corpus(wiki=300, books=70)  # the first phase takes 64 of the books
    with pytest.raises(RecipeError) as error:
        phases.shares(given, mixture, budget(given), [both, both])
    assert str(error.value) == (
        "train.total_tokens needs 32 samples (2 steps of phase 1), but with mixture.max_epochs the "
        "sources give 6; raise max_epochs, or lower total_tokens: to at most 0 steps"
    )


def test_a_budget_past_the_end_of_the_mixture_is_refused() -> None:
    mixture = Mixture(max_epochs={"wiki": 1.0, "books": 0.5})
    known = corpus(wiki=100, books=56)
    phases.shares([], mixture, budget([], steps=8), [known])
    with pytest.raises(RecipeError, match=r"needs 144 samples .* give 128; .* at most 8 steps"):
        phases.shares([], mixture, budget([], steps=9), [known])
    endless = Mixture(max_epochs={"wiki": 1.0})
    phases.shares([], endless, budget([], steps=9), [known])


def test_fewer_samples_than_a_batch_are_refused() -> None:
    phases.shares([], Mixture(), budget([]), [corpus(wiki=13, books=3)])
    with pytest.raises(RecipeError) as error:
        phases.shares([], Mixture(), budget([]), [corpus(wiki=11, books=3)])
    assert str(error.value) == (
        "a step takes 16 samples, but for training there are 14 (wiki 11, books 3): lower "
        "train.global_batch_size to at most 14, or prepare more text"
    )
    given = [Phase(share=0.5), Phase(share=0.5, sequence_length=128, weights={"books": 1.0})]
    both = [corpus(wiki=300, books=10), corpus(128, wiki=150, books=5)]
    with pytest.raises(RecipeError) as error:
        phases.shares(given, Mixture(), budget(given), both)
    assert str(error.value) == (
        "a step of phase 1 takes 8 samples, but for training there are 5 (books 5): lower "
        "train.global_batch_size to at most 10, or prepare more text"
    )


def test_a_small_source_comes_more_than_once_in_a_batch_as_another_epoch() -> None:
    """3 books, half of a batch of 16: each of them at least twice, masked by its epoch anew."""
    order = sample_order([100, 3], [0.5, 0.5], seed=0, start=0, count=16)
    books = order.source == 1
    assert books.sum() == 8
    pairs = set(zip(order.sample[books].tolist(), order.epoch[books].tolist(), strict=True))
    assert len(pairs) == 8


@pytest.mark.parametrize("limits", [(None, None, None), (700, None, None), (700, 90, None)])
def test_draws_are_those_of_the_order(limits: tuple[int | None, ...]) -> None:
    weights = (0.5, 0.3, 0.2)
    order = sample_order([90, 30, 10**6], weights, 1, 0, 5000, limits)
    for count in (1, 10, 299, 300, 301, 1403, 5000):
        wanted = np.bincount(order.source[:count], minlength=3).tolist()
        assert phases.draws(schedule(weights, limits), count) == wanted


def test_shards_of_another_corpus_are_refused(prepared: Path, tmp_path: Path) -> None:
    own = Corpus(prepared / "run/data")
    given = [Phase(share=0.5), Phase(share=0.5, sequence_length=32)]
    phases.prepare(own, budget(given), tmp_path, workers=1)
    found = phases.opened(own, (64, 32), tmp_path)
    assert [it.sequence_length for it in found] == [64, 32]
    kept = [sum(phases.num_samples(it).values()) * it.sequence_length for it in found]
    assert kept[0] == pytest.approx(kept[1], rel=0.1)  # the same text, cut otherwise
    own.fingerprint = "xxh3:0"
    with pytest.raises(DataError, match=r"shards-32 was packed from another corpus .* remove it"):
        phases.opened(own, (64, 32), tmp_path)


def test_a_plan_checks_what_is_known_already(prepared: Path, tmp_path: Path) -> None:
    """Names always, counts up to the first phase whose shards have yet to be made."""
    own = Corpus(prepared / "run/data")
    given = [Phase(share=0.5), Phase(share=0.5, sequence_length=32, weights={"ships": 1.0})]
    capped = Mixture(max_epochs={"ships": 0.05})
    phases.check_known(given, capped, budget(given, 40), own, tmp_path)
    phases.prepare(own, budget(given, 40), tmp_path, workers=1)
    with pytest.raises(RecipeError, match=r"needs 640 samples \(20 steps of phase 1\)"):
        phases.check_known(given, capped, budget(given, 40), own, tmp_path)
    shutil.rmtree(tmp_path / "shards-32")
    wrong = [given[0], Phase(share=0.5, sequence_length=32, weights={"ship": 1.0})]
    with pytest.raises(RecipeError, match=r"did you mean `ships`\?"):
        phases.check_known(wrong, capped, budget(given, 40), own, tmp_path)


@pytest.mark.distributed
def test_a_run_of_two_ranks_goes_through_ramp_and_phases(workplace: Path) -> None:
    """Batches of 8 and 16 samples of plants, then ships in the same and in longer samples. A block
    of the ships that is damaged in mid-run ends it with exit code 3 and the checkpoint before it;
    repaired, the same command ends it."""
    recipe = workplace / "recipe.toml"
    text = recipe.read_text().replace("dropout = 0.1", "max_positions = 128")
    tables = """
ramp_from = 8
ramp_share = 0.2
[[train.phases]]
share = 0.5
weights = { plants = 1 }
[[train.phases]]
share = 0.25
weights = { ships = 1 }
[[train.phases]]
share = 0.25
sequence_length = 128
"""
    recipe.write_text(text.replace("[optimizer]", tables + "[optimizer]"))
    given = [Phase(share=1.0, sequence_length=128)]
    phases.prepare(Corpus(workplace / "run/data"), budget(given), workplace / "run/pretrain", 1)
    path = workplace / "run/data/sources/ships/train-00000.tokens.npy"
    sound = path.read_bytes()
    path.write_bytes(sound[:-9] + bytes([sound[-9] ^ 1]) + sound[-8:])
    done = run_ranks(["-m", "pretrain", "recipe.toml"], 2, workplace)
    assert 3 in done.exit_codes, done.text
    assert f"{path.relative_to(workplace)}: block 0" in done.text
    assert "`python -m data_prep repair run/data ships/train-00000` writes this" in done.text
    checkpoints = workplace / "run/pretrain/checkpoints"
    assert (checkpoints / "LATEST").read_text().strip() == "step-00000008"  # of 9 without ships
    repair = ["-m", "data_prep", "repair", "run/data", "ships/train-00000"]
    told = subprocess.run(
        [sys.executable, *repair],
        cwd=workplace,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert path.read_bytes() == sound
    done = run_ranks(["-m", "pretrain", "recipe.toml"], 2, workplace)
    assert done.exit_codes == [0, 0], done.text
    lines = (workplace / "run/pretrain/ledger/rank-00000.jsonl").read_text().splitlines()
    steps = [found["step"] for found in map(json.loads, lines) if "step" in found]
    assert steps == list(range(1, 16))  # 5 of 8 samples, then of 1,024 tokens 4, 3 and 3
