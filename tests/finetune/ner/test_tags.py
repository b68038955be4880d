"""Tag schemes are read alike and named rightly; what breaks one is counted or refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.ner import tags
from finetune.ner.tags import Span

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


def test_transitions_forbid_what_iob2_does() -> None:
    rules = tags.transitions(LABELS)
    inside = LABELS.index("I-PER")
    before = [row[inside] for row in rules["between"]]
    assert [LABELS[i] for i, score in enumerate(before) if score == 0.0] == ["B-PER", "I-PER"]
    assert rules["start"][inside] == tags.FORBIDDEN
    assert rules["start"][LABELS.index("B-PER")] == 0.0
    assert {row[LABELS.index("B-PER")] for row in rules["between"]} == {0.0}
    assert rules["end"] == [0.0] * 5


@pytest.mark.parametrize(
    "written",
    ["B-X E-X S-X L-X", "B-X M-X E-X B-X I-X E-X", "B-X M-X L-X"],
)
def test_prefixes_of_two_schemes_are_an_error(written: str) -> None:
    with pytest.raises(ValueError, match=r"mix schemes .*1 of .*write them in one of IOB1"):
        tags.scheme([written.split()])


@pytest.mark.parametrize(
    ("name", "written", "count"),
    [
        ("iobes", "B-X I-X E-X S-X O B-Y E-Y", 0),
        ("iobes", "E-X O", 1),  # ends what was not begun
        ("iobes", "O B-X O", 1),  # begun, never ended
        ("iobes", "B-X", 1),
        ("iobes", "I-X E-X", 1),
        ("bilou", "B-X L-X U-X", 0),
        ("bilou", "B-X U-X", 1),
        ("bmes", "B-X M-Y E-Y", 1),  # goes on with another type
        ("bmes", "B-X M-X E-Y", 1),
        ("mixed_iob", "B-X I-X O I-X B-Y I-X", 2),
        ("iob2", "B-X I-X B-X", 0),
    ],
)
def test_places_that_break_the_scheme_are_counted(name: str, written: str, count: int) -> None:
    assert tags.breaks(written.split(), name) == count
