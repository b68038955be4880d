"""Tag schemes are read alike, named rightly, and decoding gives valid sequences only."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import tags
from finetune.tags import Span

SAME = [Span(0, 2, "PER"), Span(2, 3, "PER"), Span(4, 5, "LOC")]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("iob2", "B-PER I-PER B-PER O B-LOC"),
        ("iob1", "I-PER I-PER B-PER O I-LOC"),
        ("iobes", "B-PER E-PER S-PER O S-LOC"),
        ("bilou", "B-PER L-PER U-PER O U-LOC"),
        ("bmes", "B-PER E-PER S-PER O B-LOC"),
    ],
)
def test_every_scheme_gives_the_same_entities(name: str, written: str) -> None:
    sequence = written.split()
    assert tags.spans(sequence) == SAME
    found = tags.scheme([sequence, ["B-X", "M-X", "E-X"]] if name == "bmes" else [sequence])
    assert found == name


def test_iob1_read_as_iob2_would_lose_entities() -> None:
    sequence = ["I-PER", "O", "I-LOC", "I-LOC", "B-LOC"]
    assert len(tags.spans(sequence)) == 3
    assert sum(tag.startswith("B-") for tag in sequence) == 1  # all that an IOB2 reader sees
    assert tags.iob2(tags.spans(sequence), 5) == ["B-PER", "O", "B-LOC", "I-LOC", "B-LOC"]


def test_other_schemes_are_named() -> None:
    assert tags.scheme([["B-X", "I-X", "O", "I-X"]]) == "mixed_iob"
    assert tags.scheme([["O", "O"]]) == "none"


def test_types_may_hold_hyphens_and_dots() -> None:
    sequence = ["B-creative-work", "I-creative-work", "B-a.b"]
    assert tags.spans(sequence) == [Span(0, 2, "creative-work"), Span(2, 3, "a.b")]


def test_a_change_of_type_begins_an_entity() -> None:
    assert tags.spans(["B-PER", "I-LOC"]) == [Span(0, 1, "PER"), Span(1, 2, "LOC")]


@pytest.mark.parametrize("bad", ["PER", "B", "B-", "X-PER", "o", "", "PER-B"])
def test_a_bad_tag_is_an_error(bad: str) -> None:
    with pytest.raises(ValueError, match="not a tag"):
        tags.spans(["O", bad])


@st.composite
def entity_lists(draw: st.DrawFn) -> tuple[int, list[Span]]:
    num_words = draw(st.integers(1, 12))
    cuts = sorted(draw(st.sets(st.integers(0, num_words), max_size=8)))
    kept = [
        Span(a, b, draw(st.sampled_from(["PER", "a-b", "LOC"])))
        for a, b in itertools.pairwise(cuts)
        if draw(st.booleans())
    ]
    return num_words, kept


@given(entity_lists())
def test_entities_survive_the_round_trip(case: tuple[int, list[Span]]) -> None:
    num_words, entities = case
    assert tags.spans(tags.iob2(entities, num_words)) == entities


LABELS = tags.tag_set(["PER", "LOC"])


def test_the_label_set_is_sorted() -> None:
    assert LABELS == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def test_allowed_transitions() -> None:
    allowed = tags.allowed_transitions(LABELS)
    inside = LABELS.index("I-PER")
    assert [LABELS[i] for i in np.flatnonzero(allowed[:-1, inside])] == ["B-PER", "I-PER"]
    assert not allowed[-1, inside]
    assert allowed[:, LABELS.index("B-PER")].all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_decoding_finds_the_best_valid_sequence(seed: int, length: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(length, len(LABELS))).astype(np.float32)
    allowed = tags.allowed_transitions(LABELS)
    start = len(LABELS)

    def total(path: tuple[int, ...]) -> float:
        if not all(allowed[a, b] for a, b in itertools.pairwise((start, *path))):
            return -np.inf
        return float(sum(scores[n, label] for n, label in enumerate(path)))

    best = max(itertools.product(range(len(LABELS)), repeat=length), key=total)
    assert tuple(tags.decode(scores, allowed)) == best
