"""Named entity recognition: entities as spans of words, learnt as one IOB2 tag a word.

A word's tag is predicted at its first token. The text of a sentence is tokenised as a whole, as in
pretraining, so every tokenizer family sees the spaces it was trained with; if a token then covers
two words (scripts without spaces), the sentence is encoded again with a space between all words.
A text longer than the model input becomes overlapping windows, and every word is learnt and
predicted in the window that shows most of its context. With `context = "document"` a window also
shows what stands around its sentences in their document, and scores several of them: then a step of
`batch_size` windows is as much as several times that of plain sentences.

Every entity has its exact probability among all valid sequences of the whole sentence, with the
transitions that a CRF learnt unless the recipe has none, under a temperature fitted on the valid
rows. Those above a threshold fitted there are predicted; in evaluations while the model is trained,
and with `decode = "viterbi"`, those of the most probable sequence. A word without any token
continues the entity around it, else it is outside. Files: finetune/ner/tagged_text.py; windows,
decoding and errors: finetune/ner/.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from finetune.ner import errors, predictions, tagged_text, tags, windows
from finetune.ner.baselines import guesses
from finetune.ner.chain import chain_of
from finetune.ner.predictions import Claims, Prediction
from finetune.ner.tagged_text import Columns, Fields, Sentence
from finetune.ner.windows import Shape
from finetune.scores import metrics
from finetune.task import IGNORED, Dataset, Encoded, Loss, Scores, Task, Window
from finetune.tokenizer import Tokenizer
from runtime.config import Positive
from runtime.errors import DataError

HEAD = "token"
RUN = 50  # sentences of a file without several documents that folds keep together


class Params(Task):
    """Entities as spans of words, learnt as one tag a word."""

    kind: Literal["ner"] = "ner"
    format: Literal["conll", "jsonl"] | None = None  # None: jsonl by file name, else conll
    separator: Literal["whitespace", "tab"] = "whitespace"  # between CoNLL columns
    word_column: int = 0  # of CoNLL lines; negative counts from the end
    tag_column: int = -1  # of CoNLL lines, like word_column
    tokens_field: str = "tokens"  # JSONL: words, with tags ...
    tags_field: str = "tags"  # JSONL: one tag a word
    text_field: str = "text"  # ... or text, with character spans
    spans_field: str = "spans"  # JSONL: a list of {start, end, label}
    span_end: Literal["auto", "exclusive", "inclusive"] = (
        "auto"  # what `end` of a span points at: behind the last character, or at it; auto: as the
        # file's spans say, an error if they do not
    )
    documents: Literal["marked", "file"] = (
        "marked"  # which sentences are one document: those that -DOCSTART- lines or document_field
        # say, or all of a file
    )
    document_field: str = "document"  # JSONL: rows with the same value are one document, in order
    context: Literal["none", "document"] = "none"  # what a window shows around its sentences
    shown_tokens: Positive = (
        256  # with context, tokens a window shows at most; max_length bounds it
    )
    scored_tokens: Positive = (
        160  # with context, tokens of neighbouring sentences that one window scores at most
    )
    window_overlap: int = Field(
        default=64, ge=0
    )  # tokens that neighbouring windows of a long text share
    decode: Literal["likely", "viterbi"] = (
        "likely"  # entities that are predicted: all whose probability is above a threshold fitted
        # on valid for the best F1, or those of the most probable valid sequence
    )
    crf: bool = (
        True  # learn tags as a sequence (a linear-chain CRF), with what follows what, at
        # head_learning_rate; false: each tag by itself. Decoding obeys the rules of IOB2 anyway
    )
    metric: Literal["f1", "precision", "recall", "macro_f1", "token_accuracy"] = (
        "f1"  # strict, by entity: chooses the best checkpoint and stops early
    )

    @model_validator(mode="after")
    def context_has_room(self) -> Self:
        if self.scored_tokens > self.shown_tokens:
            raise ValueError(
                f"scored_tokens ({self.scored_tokens}) must not exceed shown_tokens "
                f"({self.shown_tokens}): a window shows what it scores and what stands around it"
            )
        return self


def read(path: Path, params: Params) -> Dataset:
    """Read the sentences of a file. Raises DataError if there are none, or context is asked for and
    the file has no documents."""
    kind = params.format or ("jsonl" if path.suffix in (".jsonl", ".json") else "conll")
    if kind == "conll":
        columns = Columns(params.separator, params.word_column, params.tag_column)
        rows, counts = tagged_text.read_conll(path, columns)
    else:
        rows, counts = tagged_text.read_jsonl(path, fields_of(params), params.span_end)
    if not rows:
        raise DataError(f"{path} holds no sentence (format {kind!r}); is it the right file?")
    if params.documents == "file":
        rows = [replace(row, document=0, place=place) for place, row in enumerate(rows)]
        counts["documents"] = 1
    if params.context == "document":
        num_alone = sum(row.document is None for row in rows)
        if num_alone == len(rows):
            raise DataError(
                f"{path} has no documents to show context of (no -DOCSTART- line, no field "
                f'{params.document_field!r}); set documents = "file" if its sentences are in text '
                'order, document_field to the field that names them, or context = "none"'
            )
        counts["sentences_without_document"] = num_alone
    counts |= {
        "sentences": len(rows),
        "words": sum(len(row.words) for row in rows),
        "entities": sum(len(row.entities) for row in rows),
    }
    return Dataset(path, list(rows), counts)


def fields_of(params: Params) -> Fields:
    return Fields(
        params.tokens_field,
        params.tags_field,
        params.text_field,
        params.spans_field,
        params.document_field,
    )


def label_set(dataset: Dataset, params: Params) -> list[str]:
    """The tags of all entity types of the training rows. Raises DataError if there are none."""
    types = {entity.type for row in dataset.rows for entity in row.entities}
    if not types:
        raise DataError(f"{dataset.path} holds no entity, so there is nothing to learn")
    return tags.tag_set(types)


def types_of(labels: Sequence[str]) -> list[str]:
    """The entity types of a label set."""
    return [label[2:] for label in labels if label.startswith("B-")]


def check_labels(dataset: Dataset, labels: Sequence[str]) -> None:
    """Raise DataError at the first entity of a type that the training rows lack."""
    types = types_of(labels)
    for row in dataset.rows:
        for entity in row.entities:
            if entity.type not in types:
                raise DataError(
                    f"{dataset.path}:{row.line_of(entity.start)}: label {entity.type!r} is not in "
                    f"the label set ({', '.join(types)}), which comes from the training "
                    "file; correct the label or add training rows with it"
                )


def from_inputs(inputs: Sequence[dict[str, Any]], params: Params) -> Dataset:
    """Rows to predict, from objects with `tokens` or `text`; DataError if one has neither.

    Those with the same value of the document field are one document, in the order given.
    """
    rows: list[Sentence] = []
    fields = fields_of(params)
    for number, given in enumerate(inputs, start=1):
        tokens, text = given.get(fields.tokens), given.get(fields.text)
        if isinstance(tokens, list) and all(isinstance(token, str) for token in tokens):
            rows.append(tagged_text.from_words(tokens, [], number))
        elif isinstance(text, str):
            rows.append(tagged_text.from_text(text, [], number))
        else:
            raise DataError(
                f"input {number} has neither a string {fields.text!r} nor a list of strings "
                f"{fields.tokens!r}; it has {', '.join(map(repr, given)) or 'nothing'}"
            )
    keys = [
        tagged_text.document_key(given.get(fields.document), fields, f"input {number}")
        for number, given in enumerate(inputs, start=1)
    ]
    return Dataset(Path("input"), list(tagged_text.in_documents(rows, keys)))


def encode(
    dataset: Dataset,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    params: Params,
    max_length: int,
) -> Encoded:
    """Sentences as windows; no word is cut off."""
    ids = {label: i for i, label in enumerate(labels)}
    shape = shape_of(params, max_length - tokenizer.single.num_special)
    counts: Counter[str] = Counter()
    located = windows.locate(dataset.rows, tokenizer, counts)
    counts["sentences_in_windows"] = sum(len(each.ids) > shape.capacity for each in located)
    targets = [
        windows.targets_of(row, each, ids) for row, each in zip(dataset.rows, located, strict=True)
    ]
    found = windows.windows(dataset.rows, located, targets, tokenizer.single, shape)
    if params.crf:
        found = [with_whole_entities(window, labels) for window in found]
    if shape.shown:
        counts["tokens_with_context"] = sum(len(window.input_ids) for window in found)
    return Encoded(found, dict(counts))


def shape_of(params: Params, capacity: int) -> Shape:
    """The windows that a recipe asks for, of at most `capacity` tokens."""
    if params.context == "none":
        return Shape(capacity, params.window_overlap)
    shown = min(params.shown_tokens, capacity)
    # A shorter window keeps the proportion, so that there still is context.
    scored = max(1, params.scored_tokens * shown // params.shown_tokens)
    return Shape(capacity, params.window_overlap, shown, scored)


def with_whole_entities(window: Window, labels: Sequence[str]) -> Window:
    """A window that a CRF can learn: the rest of an entity that an earlier window of a long
    sentence began is not known here, because no valid sequence begins inside one."""
    inside = [i for i, label in enumerate(labels) if label.startswith("I-")]
    is_rest = np.isin(window.targets, inside)
    size = len(is_rest) if is_rest.all() else int(is_rest.argmin())
    if size == 0:
        return window
    targets = window.targets.copy()
    targets[:size] = IGNORED
    return replace(window, targets=targets)


def loss(dataset: Dataset, labels: Sequence[str], params: Params) -> Loss:
    """Cross-entropy of tags, or of their sequences."""
    decoding: dict[str, Any] = {"decode": params.decode}
    if params.crf:
        return Loss(kind="crf", decoding={**decoding, "transitions": tags.transitions(labels)})
    return Loss(decoding=decoding)


def decode(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> list[Prediction]:
    """The entities of every sentence."""
    outputs = windows.by_row(dataset.rows, encoded.windows, logits)
    return predictions.predictions(dataset.rows, outputs, chain_of(labels, decoding))


def calibrate(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> dict[str, Any]:
    """Decoding with the temperature at which confidences on these rows can be believed, and with
    the one from which entities are predicted."""
    from finetune.ner import calibration  # scipy: half a second

    outputs = windows.by_row(dataset.rows, encoded.windows, logits)
    fitted = {**decoding, **calibration.fit(outputs, chain_of(labels, decoding))}
    if decoding["decode"] == "likely":
        chosen = calibration.choose(outputs, chain_of(labels, fitted))
        fitted["threshold"] = chosen.pop("threshold")
        fitted["calibration"] = {**fitted.get("calibration", {}), **chosen}
    return fitted


def with_threshold(
    decoding: Mapping[str, Any], threshold: float, labels: Sequence[str]
) -> dict[str, Any]:
    """Decoding that predicts all entities of at least this probability."""
    return {**decoding, "threshold": threshold}


def groups(dataset: Dataset) -> list[int]:
    """The document of every sentence; of one that stands alone, itself. A file that is one
    document counts as runs of sentences, so that folds can be made of it."""
    rows: Sequence[Sentence] = dataset.rows
    documents = {row.document for row in rows}
    if len(documents) == 1 and None not in documents:
        return [row.place // RUN for row in rows]
    first_free = max((d for d in documents if d is not None), default=-1) + 1
    return [first_free + i if row.document is None else row.document for i, row in enumerate(rows)]


def texts(row: Sentence) -> tuple[str, ...]:
    """What leak checks compare."""
    return (row.text,)


def gold(row: Sentence) -> list[dict[str, Any]]:
    """The gold entities with characters of the text."""
    return [predictions.shown(row, entity) for entity in row.entities]


def answer(row: Sentence, prediction: Prediction, labels: Sequence[str]) -> dict[str, Any]:
    """Entities with characters of the text and the probability of exactly this entity."""
    pairs = zip(prediction.entities, prediction.confidences, strict=True)
    entities = [
        {**predictions.shown(row, span), "confidence": round(sure, 4)} for span, sure in pairs
    ]
    return {"text": row.text, "entities": entities}


def score(dataset: Dataset, found: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    """Strict entity scores, token scores, and how often decoding had to repair tags."""
    scores = metrics.tagging(*tags_of(dataset, found), labels)
    repaired = sum(prediction.is_repaired for prediction in found)
    return Scores(scores.metrics, {**scores.report, "sentences_repaired": repaired})


def tags_of(
    dataset: Dataset, found: Sequence[Prediction]
) -> tuple[list[list[str]], list[list[str]]]:
    """Gold and predicted."""
    return [row.tags for row in dataset.rows], [prediction.tags for prediction in found]


def row_counts(
    dataset: Dataset, found: Sequence[Prediction], labels: Sequence[str]
) -> NDArray[np.float64]:
    """What every sentence contributes to the metrics."""
    return metrics.entity_row_counts(*tags_of(dataset, found), types_of(labels))


def of_counts(
    counts: NDArray[np.float64], weights: NDArray[np.float64], metric: str
) -> NDArray[np.float64]:
    """A metric of resamples in which sentence i occurs weights[r, i] times."""
    return metrics.of_entity_counts(weights @ counts, metric)


def curves(
    dataset: Dataset, found: Sequence[Prediction], labels: Sequence[str]
) -> dict[str, Claims]:
    """Of each entity type its predicted entities: is it exactly right, and how sure was the model;
    and the gold ones that were not found, as right at confidence 0."""
    curves = {}
    for kind in types_of(labels):
        is_right, confidences = predictions.claims(dataset.rows, found, kind)
        missed = predictions.num_missed(dataset.rows, found, kind)
        curves[kind] = [*is_right, *[True] * missed], [*confidences, *[0.0] * missed]
    return curves


def analysis(
    train: Dataset,
    dataset: Dataset,
    found: Sequence[Prediction],
    labels: Sequence[str],
    params: Params,
) -> dict[str, Any]:
    """Kinds of errors with examples, scores of seen and of new mentions, and how far confidences
    can be believed."""
    from finetune.scores import class_metrics  # scipy: half a second

    entities = [prediction.entities for prediction in found]
    claims = [predictions.claims(dataset.rows, found, kind) for kind in types_of(labels)]
    is_right = np.array([right for some, _ in claims for right in some], dtype=bool)
    confidences = np.array([sure for _, some in claims for sure in some], dtype=np.float64)
    return {
        **errors.report(dataset.rows, entities),
        "by_novelty": errors.by_novelty(train.rows, dataset.rows, entities),
        "calibration": class_metrics.calibration(is_right, confidences),
    }


def final_report(
    dataset: Dataset, found: Sequence[Prediction], labels: Sequence[str]
) -> dict[str, Any]:
    """seqeval's reports in both modes and the table of tokens."""
    return metrics.tagging_final(*tags_of(dataset, found), labels)


def baselines(
    train: Dataset, dataset: Dataset, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Metrics of the most frequent tag everywhere, and of each word's most frequent tag."""
    wanted = [row.tags for row in dataset.rows]
    found = guesses(train.rows, dataset.rows)
    return {name: metrics.tagging(wanted, tags, labels).metrics for name, tags in found.items()}
