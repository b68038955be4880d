"""Words in, words out: encoding loses none, windows share them, decoding puts them back."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from finetune.ner import calibration, chain, tagged_text, tags, windows
from finetune.ner.tags import Span
from finetune.task import Dataset, Encoded
from finetune.tasks import ner
from finetune.tokenizer import Tokenizer
from runtime.errors import DataError
from tests.finetune.conftest import template, trained, wrap

LABELS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
PARAMS = ner.Params(train=Path("x"), valid=Path("x"), window_overlap=4, crf=False)


def dataset_of(*sentences: tuple[Sequence[str], Sequence[Span]]) -> Dataset:
    rows = [tagged_text.from_words(list(w), list(e), 1) for w, e in sentences]
    return Dataset(Path("test"), rows)


def sure(encoded: Encoded) -> list[NDArray[np.float32]]:
    """Logits of a model that knows every answer."""
    return [np.eye(len(LABELS), dtype=np.float32)[w.targets] * 9 for w in encoded.windows]


def test_the_first_token_of_a_word_carries_its_tag(tokenizer: Tokenizer) -> None:
    dataset = dataset_of((["ada", "visited", "oslos"], [Span(0, 1, "PER"), Span(2, 3, "LOC")]))
    (window,) = ner.encode(dataset, tokenizer, LABELS, PARAMS, 32).windows
    pieces = [tokenizer.backend.id_to_token(i) for i in window.input_ids]
    assert pieces == ["[CLS]", "ada", "visited", "oslo", "##s", "[SEP]"]
    assert window.positions.tolist() == [1, 2, 3]
    assert [LABELS[i] for i in window.targets] == ["B-PER", "O", "B-LOC"]


def test_text_that_spells_a_special_token_is_text(tokenizer: Tokenizer) -> None:
    dataset = dataset_of((["[SEP]", "ada"], [Span(1, 2, "PER")]))
    (window,) = ner.encode(dataset, tokenizer, LABELS, PARAMS, 32).windows
    assert (window.input_ids == 3).sum() == 1  # the one we added
    assert len(window.positions) == 2


def test_words_without_tokens_are_counted_and_get_a_tag(tokenizer: Tokenizer) -> None:
    words = ["\u200b", "new", "\u200b", "york", "\u200b", "ada"]
    dataset = dataset_of((words, [Span(1, 4, "LOC"), Span(5, 6, "PER")]))
    encoded = ner.encode(dataset, tokenizer, LABELS, PARAMS, 32)
    assert encoded.counts["words_without_tokens"] == 3
    (prediction,) = ner.decode(dataset, encoded, sure(encoded), LABELS, {})
    assert prediction.tags == ["O", "B-LOC", "I-LOC", "I-LOC", "O", "B-PER"]
    assert prediction.entities == [Span(1, 4, "LOC"), Span(5, 6, "PER")]


def test_a_sentence_without_any_token_is_all_outside(tokenizer: Tokenizer) -> None:
    dataset = dataset_of((["\u200b"], []), (["ada"], [Span(0, 1, "PER")]))
    encoded = ner.encode(dataset, tokenizer, LABELS, PARAMS, 32)
    predictions = ner.decode(dataset, encoded, sure(encoded), LABELS, {})
    assert [p.tags for p in predictions] == [["O"], ["B-PER"]]


def random_sentences(seed: int) -> Dataset:
    rng = random.Random(seed)
    vocabulary = [
        "ada",
        "visited",
        "playing",
        "York",
        "-",
        "北",
        "京",
        "Ünï",
        "x" * 30,
        "😂",
        "\u200b",
    ]
    found = []
    for _ in range(20):
        words = [rng.choice(vocabulary) for _ in range(rng.randrange(1, 60))]
        starts = range(0, len(words) - 2, 3)
        entities = [Span(i, i + rng.randrange(1, 4), "LOC") for i in starts if rng.random() < 0.4]
        found.append((words, entities))
    return dataset_of(*found)


@pytest.mark.parametrize("model", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("max_length", [8, 17, 512])
def test_predicted_words_are_the_words_for_every_tokenizer(
    model: str, max_length: int, tokenizer: Tokenizer
) -> None:
    dataset = random_sentences(3)
    if model != "wordpiece":
        texts = [row.text for row in dataset.rows] * 3 + ["北京 北京 北京 plays played"]
        tokenizer = wrap(trained(model, texts))
    encoded = ner.encode(dataset, tokenizer, LABELS, PARAMS, max_length)
    assert max(len(window.input_ids) for window in encoded.windows) <= max_length
    num_words = sum(len(row.words) for row in dataset.rows)
    learnt = sum(len(window.words) for window in encoded.windows)
    assert learnt == num_words - int(encoded.counts["words_without_tokens"])
    located = windows.locate(dataset.rows, tokenizer, Counter())
    predictions = ner.decode(dataset, encoded, sure(encoded), LABELS, {})
    for prediction, row, where in zip(predictions, dataset.rows, located, strict=True):
        assert len(prediction.tags) == len(row.words)
        assert prediction.entities == [
            Span(int(places[0]), int(places[-1]) + 1, entity.type)
            for entity in row.entities
            if len(
                places := where.words[(where.words >= entity.start) & (where.words < entity.end)]
            )
        ]
        assert not prediction.is_repaired


def test_windows_cover_the_text_and_own_every_word_once(tokenizer: Tokenizer) -> None:
    dataset = dataset_of((["ada"] * 20, [Span(7, 8, "PER")]))
    windows = ner.encode(dataset, tokenizer, LABELS, PARAMS, 12).windows  # 10 tokens of text
    assert [len(window.input_ids) for window in windows] == [12, 12, 12]
    owned = [window.words.tolist() for window in windows]
    assert owned == [list(range(8)), list(range(8, 13)), list(range(13, 20))]


def test_a_token_over_two_words_is_separated_and_counted() -> None:
    pieces = [("[PAD]", 0.0), ("[UNK]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0)]
    pieces += [("▁北京", -1.0), ("▁", -2.0), ("北", -3.0), ("京", -3.0), ("a", -3.0)]
    backend = Backend(models.Unigram(pieces, 1, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = template()
    tokenizer = wrap(backend)
    dataset = dataset_of((["北", "京"], [Span(0, 2, "LOC")]))
    assert tokenizer.tokens(["北京"])[0].ids.tolist() == [4]
    encoded = ner.encode(dataset, tokenizer, LABELS, PARAMS, 32)
    assert encoded.counts["sentences_spaced_out"] == 1
    assert encoded.counts["words_without_tokens"] == 0
    assert encoded.windows[0].words.tolist() == [0, 1]


def test_invalid_tags_are_repaired_and_counted(tokenizer: Tokenizer) -> None:
    dataset = dataset_of((["ada", "met"], [Span(0, 1, "PER")]))
    encoded = ner.encode(dataset, tokenizer, LABELS, PARAMS, 32)
    logits = np.array([[0, 0, 0, 3, 4], [5, 0, 0, 0, 0]], dtype=np.float32)  # I-PER first
    predictions = ner.decode(dataset, encoded, [logits], LABELS, {})
    assert predictions[0].tags == ["B-PER", "O"]
    assert predictions[0].is_repaired
    scores = ner.score(dataset, predictions, LABELS)
    assert scores.metrics["f1"] == 1.0
    assert scores.report["sentences_repaired"] == 1


def test_baselines() -> None:
    train = dataset_of((["ada", "met", "the", "in"], [Span(0, 1, "PER")]))
    test = dataset_of((["ada", "the", "bob"], [Span(0, 1, "PER"), Span(2, 3, "PER")]))
    found = ner.baselines(train, test, LABELS)
    assert found["lookup"]["recall"] == 0.5
    assert found["lookup"]["precision"] == 1.0
    assert found["majority"]["f1"] == 0.0
    assert found["majority"]["token_accuracy"] == pytest.approx(1 / 3)


def test_an_answer_has_characters_and_confidence(tokenizer: Tokenizer) -> None:
    dataset = ner.from_inputs([{"text": "Ada visited  New York."}], PARAMS)
    encoded = ner.encode(dataset, tokenizer, LABELS, PARAMS, 32)
    wanted = ["B-PER", "O", "B-LOC", "I-LOC", "O"]
    logits = np.eye(5, dtype=np.float32)[[LABELS.index(tag) for tag in wanted]] * 20
    (prediction,) = ner.decode(dataset, encoded, [logits], LABELS, {})
    answer: dict[str, Any] = ner.answer(dataset.rows[0], prediction, LABELS)
    assert [(e["text"], e["label"]) for e in answer["entities"]] == [
        ("Ada", "PER"),
        ("New York", "LOC"),
    ]
    assert (answer["entities"][1]["start"], answer["entities"][1]["end"]) == (13, 21)
    assert answer["entities"][0]["confidence"] == 1.0


def test_inputs_have_documents_only_if_they_say_so() -> None:
    given_inputs = [{"text": "a", "document": "x"}, {"text": "b"}, {"text": "c", "document": "x"}]
    rows = ner.from_inputs(given_inputs, PARAMS).rows
    assert [(row.document, row.place) for row in rows] == [(0, 0), (None, 0), (0, 1)]
    with pytest.raises(DataError, match="input 1: the document of a row must be"):
        ner.from_inputs([{"text": "a", "document": {}}], PARAMS)


def in_document(*sentences: str) -> Dataset:
    rows = [
        replace(
            tagged_text.from_words(text.split(), [Span(0, 1, "PER")], place + 1),
            document=0,
            place=place,
        )
        for place, text in enumerate(sentences)
    ]
    return Dataset(Path("test"), list(rows))


def test_context_is_shown_and_not_scored(tokenizer: Tokenizer) -> None:
    dataset = in_document("ada met bob", "dan visited oslo", "carla met ada")
    params = PARAMS.model_copy(
        update={"context": "document", "shown_tokens": 8, "scored_tokens": 3}
    )
    found = ner.encode(dataset, tokenizer, LABELS, params, 64).windows
    pieces = [tokenizer.backend.id_to_token(i) for i in found[1].input_ids]
    assert pieces == [
        "[CLS]",
        "met",
        "bob",
        "dan",
        "visited",
        "oslo",
        "carla",
        "met",
        "ada",
        "[SEP]",
    ]
    assert [pieces[i] for i in found[1].positions] == ["dan", "visited", "oslo"]
    short = ner.encode(dataset, tokenizer, LABELS, params, 8).windows  # keeps the proportion
    assert max(len(window.input_ids) for window in short) == 8


def test_folds_never_cut_a_document() -> None:
    many = in_document(*["ada met bob"] * 120)
    assert sorted(Counter(ner.groups(many)).values()) == [20, 50, 50]  # one document: in runs
    alone = replace(many.rows[0], document=None)
    both = Dataset(Path("x"), [*many.rows[:2], alone, replace(alone, document=4), alone])
    assert ner.groups(both) == [0, 0, 7, 4, 9]


@pytest.mark.parametrize("is_packed", [True, False])
def test_a_crf_takes_each_sentence_as_a_chain(
    tokenizer: Tokenizer, encoder_folder: Path, is_packed: bool
) -> None:
    """Its loss is what the probabilities of decoding say, whatever window scores a sentence."""
    from finetune import heads

    dataset = in_document("ada met bob", "dan visited oslo", "carla met ada today")
    params = PARAMS.model_copy(
        update={"crf": True, "context": "document", "shown_tokens": 20, "scored_tokens": 8}
    )
    encoded = ner.encode(dataset, tokenizer, LABELS, params, 64)
    assert [window.chain_sizes for window in encoded.windows] == [(3, 3), (4,)]
    table = ner.loss(dataset, LABELS, params)
    assert table.kind == "crf"
    model = heads.build(encoder_folder, "token", LABELS, is_random=False).eval()
    objective = heads.Objective(model, "token", table)
    objective.pack(is_packed)
    found, scored = objective(**objective.inputs(encoded.windows))
    logits = np.split(scored.detach().numpy(), [6])
    outputs = windows.by_row(dataset.rows, encoded.windows, logits)
    batch, lengths = chain.padded([output.scores for output in outputs])
    wanted = calibration.nll(
        batch, lengths, [output.targets for output in outputs], chain.chain_of(LABELS, {})
    )
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-5)


def test_a_crf_never_learns_from_the_middle_of_an_entity(tokenizer: Tokenizer) -> None:
    """An entity that a window's end cuts would be a sequence that no rule allows."""
    dataset = dataset_of((["ada"] * 20, [Span(6, 11, "PER")]))
    plain = ner.encode(dataset, tokenizer, LABELS, PARAMS, 12).windows
    params = PARAMS.model_copy(update={"crf": True})
    found = ner.encode(dataset, tokenizer, LABELS, params, 12).windows
    assert [LABELS[i] for i in plain[1].targets] == ["I-PER", "I-PER", "I-PER", "O", "O"]
    assert found[1].targets.tolist() == [-100, -100, -100, 0, 0]
    assert found[0].targets.tolist() == plain[0].targets.tolist()


def test_a_crf_reads_entities_of_types_that_have_no_label(tokenizer: Tokenizer) -> None:
    dataset = dataset_of((["ada", "met", "oslo"], [Span(0, 1, "GENE")]))
    params = PARAMS.model_copy(update={"crf": True})
    (window,) = ner.encode(dataset, tokenizer, LABELS, params, 32).windows
    assert window.targets.tolist() == [-100, 0, 0]


def test_calibration_travels_with_the_model(tokenizer: Tokenizer) -> None:
    dataset = dataset_of(*[(["ada", "met", "oslo"], [Span(0, 1, "PER")])] * 30)
    encoded = ner.encode(dataset, tokenizer, LABELS, PARAMS, 32)
    rng = np.random.default_rng(1)
    # Far too sure: right four times in five.
    logits = [
        np.eye(5, dtype=np.float32)[w.targets if rng.random() < 0.8 else [1, 0, 0]] * 20
        for w in encoded.windows
    ]
    start = {"decode": "viterbi", "transitions": tags.transitions(LABELS)}
    fitted = ner.calibrate(dataset, encoded, logits, LABELS, start)
    assert fitted["temperature"] > 5
    assert fitted["calibration"]["ece_after"] < fitted["calibration"]["ece_before"]
    assert fitted["transitions"] == tags.transitions(LABELS)
    before, after = (ner.decode(dataset, encoded, logits, LABELS, each) for each in ({}, fitted))
    assert [p.tags for p in before] == [p.tags for p in after]
    sure_of = [c for p in after for c in p.confidences]
    assert 0.5 < sum(sure_of) / len(sure_of) < 0.95
    assert "threshold" not in fitted


def test_the_threshold_travels_with_the_model(tokenizer: Tokenizer) -> None:
    """Wherever the model says B-PER with 0.6 against 0.4 it is wrong, at 0.9 right."""
    dataset = dataset_of(*[(["ada", "met", "oslo"], [Span(0, 1, "PER")])] * 10)
    encoded = ner.encode(dataset, tokenizer, LABELS, PARAMS, 32)
    logits = []
    for window in encoded.windows:
        scores = np.full((len(window.targets), 5), -9.0, dtype=np.float32)
        scores[:, 0] = 0.0
        scores[:, LABELS.index("B-PER")] = [2.2, -9.0, 0.4]
        logits.append(scores)
    start = dict(ner.loss(dataset, LABELS, PARAMS).decoding)
    fitted = ner.calibrate(dataset, encoded, logits, LABELS, start)
    measured = fitted["calibration"]
    assert measured["f1_before"] == pytest.approx(2 / 3)
    assert measured["f1_after"] == 1.0
    before, after = (
        ner.score(dataset, ner.decode(dataset, encoded, logits, LABELS, each), LABELS).metrics["f1"]
        for each in (start, fitted)
    )
    assert before == pytest.approx(2 / 3)
    assert after == 1.0
    kept = PARAMS.model_copy(update={"decode": "viterbi"})
    start = dict(ner.loss(dataset, LABELS, kept).decoding)
    assert "threshold" not in ner.calibrate(dataset, encoded, logits, LABELS, start)


def test_a_window_must_show_what_it_scores() -> None:
    with pytest.raises(ValidationError, match=r"scored_tokens \(300\) must not exceed shown_tok"):
        ner.Params(train=Path("x"), scored_tokens=300)
