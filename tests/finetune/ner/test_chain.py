"""Decoding and probabilities equal what counting all sequences one by one gives."""

import itertools
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.ner import chain as chains
from finetune.ner import tags
from finetune.ner.chain import chain_of

LABELS = tags.tag_set(["LOC", "PER"])


def transitions(rng: np.random.Generator) -> dict[str, Any]:
    """What a CRF might have learnt."""
    rules = tags.transitions(LABELS)
    return {
        name: np.where(np.array(rule) < 0, rule, rng.normal(size=np.shape(rule))).tolist()
        for name, rule in rules.items()
    }


def score(path: tuple[int, ...], scores: Any, given: dict[str, Any]) -> float:
    total = given["start"][path[0]] + given["end"][path[-1]]
    total += sum(given["between"][a][b] for a, b in itertools.pairwise(path))
    return float(total + sum(scores[n, label] for n, label in enumerate(path)))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_best_sequence_and_entity_probabilities(
    seed: int, lengths: list[int], has_crf: bool, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    scores = [rng.normal(size=(n, len(LABELS))).astype(np.float32) * 2 for n in lengths]
    used = transitions(rng) if has_crf else tags.transitions(LABELS)
    chain = chain_of(LABELS, {"transitions": used, "temperature": temperature})
    for given_scores, decoded in zip(scores, chains.decode(scores, chain), strict=True):
        every = list(itertools.product(range(len(LABELS)), repeat=len(given_scores)))
        totals = {path: score(path, given_scores, used) for path in every}
        assert tuple(decoded.path) == max(totals, key=lambda path: totals[path])
        weights = {path: math.exp(total / temperature) for path, total in totals.items()}
        mass: defaultdict[tuple[int, int, str], float] = defaultdict(float)
        for path, weight in weights.items():
            if totals[path] > tags.FORBIDDEN / 2:
                for span in tags.spans([LABELS[label] for label in path]):
                    mass[span.start, span.end, span.type] += weight
        for start, end, label, chance in decoded.spans:
            wanted = mass[start, end, LABELS[label][2:]] / sum(weights.values())
            assert chance == pytest.approx(wanted, abs=1e-6)


def test_entities_and_repair_by_hand() -> None:
    chain = chain_of(LABELS, {})
    wish = ["I-LOC", "I-LOC", "O", "B-PER", "B-PER", "I-PER"]
    scores = np.array([[3.0 * (label == wanted) for label in LABELS] for wanted in wish])
    scores[0, LABELS.index("B-LOC")] = 2.0
    (found,) = chains.decode([scores.astype(np.float32)], chain)
    assert [LABELS[i] for i in found.path] == ["B-LOC", "I-LOC", "O", "B-PER", "B-PER", "I-PER"]
    assert found.is_repaired
    spans = [(start, end, LABELS[label]) for start, end, label, _ in found.spans]
    assert spans == [(0, 2, "B-LOC"), (3, 4, "B-PER"), (4, 6, "B-PER")]


def test_a_temperature_moves_confidence_and_never_the_tags() -> None:
    scores = [np.random.default_rng(3).normal(size=(9, 5)).astype(np.float32)]
    cold, warm = (
        chains.decode(scores, chain_of(LABELS, {"temperature": t}))[0] for t in (0.2, 5.0)
    )
    assert cold.path.tolist() == warm.path.tolist()
    assert len(cold.spans) > 0
    assert all(a[3] > b[3] for a, b in zip(cold.spans, warm.spans, strict=True))


def test_extreme_scores_give_probabilities() -> None:
    scores = np.full((400, 5), -1e4, dtype=np.float32)
    scores[:, LABELS.index("B-PER")] = 1e4
    (found,) = chains.decode([scores], chain_of(LABELS, {}))
    assert len(found.spans) == 400
    assert {chance for *_, chance in found.spans} == {1.0}


def test_long_sentences_do_not_pad_the_short_ones() -> None:
    lengths = [3] * 300 + [chains.BATCH_WORDS] + [2]
    found = list(chains.batches(lengths))
    assert sorted(i for batch in found for i in batch) == list(range(302))
    assert all(
        len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= chains.BATCH_WORDS
        for batch in found
    )
    assert [300] in found
