"""Words in, words out, whatever the text; and what a report shows of predictions."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.ner import tagged_text, tags
from finetune.ner.tags import Span
from finetune.scores import bootstrap, metrics
from finetune.task import Dataset
from finetune.tasks import ner
from finetune.tokenizer import Tokenizer
from tests.finetune.conftest import trained, wordpiece, wrap

LABELS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
PARAMS = ner.Params(train=Path("x"))
TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=("Cs",)),
        st.sampled_from("ab \n\u200b\u0301\ufe0f\u200d😂👩北京かé-.'"),
    ),
    max_size=80,
)
TOKENIZERS = {
    "wordpiece": wrap(wordpiece()),
    **{
        model: wrap(trained(model, ["ada visited 北京 北 京 plays played", "it's in oslo 😂 é"]))
        for model in ("bpe", "unigram")
    },
}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(TEXT, st.sampled_from([None, "a", "b"])), max_size=6),
    st.sampled_from(sorted(TOKENIZERS)),
    st.sampled_from([8, 13, 64]),
    st.booleans(),
    st.integers(0, 99),
)
def test_predicted_words_are_the_input_words(
    given_texts: list[tuple[str, str | None]],
    model: str,
    max_length: int,
    has_context: bool,
    seed: int,
) -> None:
    """Whatever the text: emoji, marks, ideographs, nothing at all, more than a window holds."""
    context = "document" if has_context else "none"
    params = PARAMS.model_copy(
        update={"context": context, "shown_tokens": 9, "scored_tokens": 5, "window_overlap": 3}
    )
    inputs = [{"text": text, "document": name} for text, name in given_texts]
    dataset = ner.from_inputs(inputs, params)
    encoded = ner.encode(dataset, TOKENIZERS[model], LABELS, params, max_length)
    assert all(len(window.input_ids) <= max_length for window in encoded.windows)
    rng = np.random.default_rng(seed)
    logits = [
        rng.normal(size=(len(w.positions), len(LABELS))).astype(np.float32) * 3
        for w in encoded.windows
    ]
    predictions = ner.decode(dataset, encoded, logits, LABELS, {})
    assert len(predictions) == len(inputs)
    for (text, _), row, prediction in zip(given_texts, dataset.rows, predictions, strict=True):
        assert len(prediction.tags) == len(row.words)
        assert [row.text[start:end] for start, end in row.offsets] == list(row.words)
        assert "".join(row.words) == "".join(text.split())
        assert tags.spans(prediction.tags) == prediction.entities
        answer = ner.answer(row, prediction, LABELS)
        assert answer["text"] == text
        last = 0
        for entity in answer["entities"]:
            assert last <= entity["start"] < entity["end"] <= len(text)
            assert text[entity["start"] : entity["end"]] == entity["text"]
            assert entity["text"].strip() != ""
            assert 0.0 <= entity["confidence"] <= 1.0
            last = entity["end"]


@pytest.mark.parametrize("context", ["none", "document"])
def test_a_text_longer_than_any_window_and_one_without_words(
    context: str, tokenizer: Tokenizer
) -> None:
    params = PARAMS.model_copy(update={"context": context})
    text = "ada met bob " * 400
    dataset = ner.from_inputs([{"text": text, "document": 1}, {"text": " "}, {"text": ""}], params)
    encoded = ner.encode(dataset, tokenizer, LABELS, params, 64)
    assert encoded.counts["sentences_in_windows"] == 1
    wanted = ["B-PER", "O", "B-PER"] * 400
    logits = [
        np.eye(len(LABELS), dtype=np.float32)[[LABELS.index(wanted[i]) for i in w.words]] * 9
        for w in encoded.windows
    ]
    long, blank, empty = ner.decode(dataset, encoded, logits, LABELS, {})
    assert long.tags == wanted
    assert (blank.entities, empty.entities) == ([], [])
    assert ner.answer(dataset.rows[2], empty, LABELS) == {"text": "", "entities": []}


def predicted(row: tagged_text.Sentence, *found: tuple[Span, float]) -> ner.Prediction:
    spans = [span for span, _ in found]
    return ner.Prediction(
        tags.iob2(spans, len(row.words)), spans, [sure for _, sure in found], False
    )


def test_findings() -> None:
    first = tagged_text.from_words(["ada", "met", "bob"], [Span(0, 1, "PER"), Span(2, 3, "PER")], 1)
    second = tagged_text.from_words(["in", "oslo"], [Span(1, 2, "LOC")], 2)
    dataset = Dataset(Path("test"), [first, second])
    predictions = [
        predicted(first, (Span(0, 1, "PER"), 0.9), (Span(1, 2, "PER"), 0.4)),
        predicted(second, (Span(1, 2, "LOC"), 0.8)),
    ]
    assert ner.gold(second) == [{"start": 3, "end": 7, "label": "LOC", "text": "oslo"}]
    assert ner.curves(dataset, predictions, LABELS) == {
        "LOC": ([True], [0.8]),
        "PER": ([True, False, True], [0.9, 0.4, 0.0]),
    }
    found = ner.analysis(dataset, dataset, predictions, LABELS, PARAMS)
    assert (found["counts"]["missed"], found["counts"]["spurious"]) == (1, 1)
    assert found["by_novelty"]["seen"]["support"] == 3
    assert found["calibration"]["ece"] == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    final = ner.final_report(dataset, predictions, LABELS)
    assert final["seqeval"]["strict"]["micro"]["f1"] == pytest.approx(2 / 3)
    assert "B-LOC" in final["token_table"]
    counts = ner.row_counts(dataset, predictions, LABELS)
    scores = ner.score(dataset, predictions, LABELS).metrics
    for metric in bootstrap.metrics_of(ner):
        once = ner.of_counts(counts, np.ones((1, 2)), metric)
        assert once == pytest.approx([scores[metric]])
    # The first sentence twice and the second never: as if scored so.
    weights = np.array([[2.0, 0.0]])
    twice = metrics.tagging([first.tags] * 2, [predictions[0].tags] * 2, LABELS).metrics
    assert ner.of_counts(counts, weights, "macro_f1") == pytest.approx([twice["macro_f1"]])
    assert bootstrap.intervals(ner, dataset, predictions, LABELS, ["f1"])["f1"]["high"] == 1.0
