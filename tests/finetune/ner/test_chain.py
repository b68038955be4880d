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
from finetune.ner.chain import Decoded, chain_of
from finetune.ner.tags import Span

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


def entity_probabilities(
    scores: Any, given: dict[str, Any], temperature: float
) -> dict[tuple[int, ...], float]:
    """Of every entity (start, end, label it begins with), by counting all sequences."""
    mass: defaultdict[tuple[int, ...], float] = defaultdict(float)
    whole = 0.0
    for path in itertools.product(range(len(LABELS)), repeat=len(scores)):
        total = score(path, scores, given)
        weight = math.exp(total / temperature)
        whole += weight
        if total > tags.FORBIDDEN / 2:
            for span in tags.spans([LABELS[label] for label in path]):
                mass[span.start, span.end, LABELS.index(f"B-{span.type}")] += weight
    return {span: weight / whole for span, weight in mass.items()}


def kinds(decoded: Decoded) -> list[Span]:
    """The entities of a sentence."""
    return [Span(start, end, LABELS[label][2:]) for start, end, label, _ in decoded.spans]


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
        assert kinds(decoded) == tags.spans(
            [LABELS[label] for label in max(totals, key=lambda path: totals[path])]
        )
        masses = entity_probabilities(given_scores, used, temperature)
        for *span, chance in decoded.spans:
            assert chance == pytest.approx(masses[tuple(span)], abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([0.05, 0.2, 0.5]),
)
def test_all_entities_above_a_threshold(
    seed: int, lengths: list[int], has_crf: bool, threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    scores = [rng.normal(size=(n, len(LABELS))).astype(np.float32) * 2 for n in lengths]
    used = transitions(rng) if has_crf else tags.transitions(LABELS)
    chain = chain_of(LABELS, {"transitions": used, "temperature": 1.5, "threshold": threshold})
    batch, sizes = chains.padded(scores)
    found = chains.by_sentence(
        chains.likely_spans(chains.posteriors(batch, sizes, chain), threshold), len(scores)
    )
    for given_scores, some, decoded in zip(
        scores, found, chains.decode(scores, chain), strict=True
    ):
        masses = entity_probabilities(given_scores, used, 1.5)
        wanted = {span: mass for span, mass in masses.items() if mass >= threshold}
        assert {span[:3]: span[3] for span in some} == pytest.approx(wanted, abs=1e-6)
        words = [word for start, end, *_ in decoded.spans for word in range(start, end)]
        assert words == sorted(set(words))  # apart, in order
        if threshold == 0.5:
            assert decoded.spans == sorted(some)
        for span in some:  # what was left out overlaps what is more probable
            assert span in decoded.spans or any(
                other[3] >= span[3] and other[0] < span[1] and span[0] < other[1]
                for other in decoded.spans
            )


def test_the_best_sequence_may_hold_entities_that_are_not_likely() -> None:
    """Where one begins is clear, where it ends is not; the most probable end has 0.41."""
    found = np.full((3, len(LABELS)), -9.0, dtype=np.float32)
    found[:, LABELS.index("O")] = 0.0
    found[0, LABELS.index("B-PER")] = 3.0
    found[1:, LABELS.index("I-PER")] = 0.6, 0.1
    chances = {threshold: spans(found, threshold) for threshold in (None, 0.3, 0.5)}
    assert [span[:2] for span in chances[None]] == [(0, 3)]
    assert chances[None][0][2] < 0.5
    assert chances[0.3] == [pytest.approx(chances[None][0])]
    assert chances[0.5] == []


def spans(scores: Any, threshold: float | None) -> list[tuple[int, int, float]]:
    (found,) = chains.decode([scores], chain_of(LABELS, {"threshold": threshold}))
    return [(start, end, chance) for start, end, _, chance in found.spans]


def test_a_long_text_without_entities_and_one_of_them() -> None:
    chain = chain_of(LABELS, {"threshold": 0.2})
    nothing = np.zeros((5, 5), dtype=np.float32)
    nothing[:, 0] = 9.0
    long = nothing[:1].repeat(2000, axis=0)
    long[100, LABELS.index("B-LOC")] = long[101:1500, LABELS.index("I-LOC")] = 30.0
    empty, found = chains.decode([nothing, long], chain)
    assert empty.spans == []
    assert [span[:3] for span in found.spans] == [(100, 1500, LABELS.index("B-LOC"))]


def test_entities_and_repair_by_hand() -> None:
    chain = chain_of(LABELS, {})
    wish = ["I-LOC", "I-LOC", "O", "B-PER", "B-PER", "I-PER"]
    scores = np.array([[3.0 * (label == wanted) for label in LABELS] for wanted in wish])
    scores[0, LABELS.index("B-LOC")] = 2.0
    (found,) = chains.decode([scores.astype(np.float32)], chain)
    assert found.is_repaired
    assert kinds(found) == [Span(0, 2, "LOC"), Span(3, 4, "PER"), Span(4, 6, "PER")]


def test_a_temperature_moves_confidence_and_never_the_tags() -> None:
    scores = [np.random.default_rng(3).normal(size=(9, 5)).astype(np.float32)]
    cold, warm = (
        chains.decode(scores, chain_of(LABELS, {"temperature": t}))[0] for t in (0.2, 5.0)
    )
    assert kinds(cold) == kinds(warm)
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
