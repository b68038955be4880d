"""Near copies against brute force: planted in made-up text always, in real text where it is at
hand. The benchmark's own functions, on fewer documents."""

import importlib
import random
from types import ModuleType

import pytest

from tests.data_prep.conftest import ROOT


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("scipy")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("near_duplicates")


def test_planted_in_made_up_text(benchmark: ModuleType) -> None:
    rng = random.Random(2)
    words = [str(number) for number in range(3_000)]
    texts = [" ".join(rng.choices(words, k=rng.randint(30, 600))) for _ in range(400)]
    corpus = benchmark.planted(texts, seed=3)
    exact = benchmark.similar_pairs(corpus.texts, 0.4)
    found = benchmark.quality(corpus, exact, bins=256)
    assert found["true_pairs"] >= 25
    assert found["candidate_recall"] == 1
    assert found["pair_recall_margin"] == found["pair_precision_margin"] == 1
    assert found["dropped_precision"] > 0.9
    assert found["planted_resolved"] > 0.9


@pytest.mark.slow
def test_planted_in_real_text(benchmark: ModuleType) -> None:
    if not (benchmark.DATA / "wiki.jsonl.zst").is_file():
        pytest.skip(f"no corpora at {benchmark.DATA}: set TEXTMILL_DATA")
    corpus = benchmark.planted(benchmark.real_texts(benchmark.DATA, 900), seed=1)
    exact = benchmark.similar_pairs(corpus.texts, 0.4)
    found = benchmark.quality(corpus, exact, bins=256)
    assert found["true_pairs"] >= 60
    assert found["candidate_recall"] > 0.97
    assert found["candidate_precision"] < 0.9  # why signatures are compared as a whole
    assert found["pair_recall_margin"] > 0.98
    assert found["pair_precision_margin"] > 0.98
    assert found["dropped_precision"] > 0.9
    assert found["pairs_resolved"] > 0.9
