"""Named entity recognition: entities as spans of words, learnt as one IOB2 tag a word.

A word's tag is predicted at its first token. The text of a sentence is tokenised as a whole, as in
pretraining, so every tokenizer family sees the spaces it was trained with; if a token then covers
two words (scripts without spaces), the sentence is encoded again with a space between all words.
A text longer than the model input becomes overlapping windows, and every word is learnt and
predicted in the window that shows most of its context. Predicted tags are the best valid sequence
(Viterbi); a word without any token continues the entity around it, else it is outside.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from finetune import tagged_text, tags, words
from finetune.logits import log_softmax
from finetune.tagged_text import Sentence
from finetune.task import IGNORED, Dataset, Encoded, Loss, Scores, Task, Window
from finetune.tokenizer import Tokenizer, Tokens
from runtime.errors import DataError

HEAD = "token"


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
    span_end: Literal["exclusive", "inclusive"] = "exclusive"  # what `end` of a span points at
    window_overlap: int = Field(
        default=64, ge=0
    )  # tokens that neighbouring windows of a long text share
    metric: Literal["f1", "precision", "recall", "token_accuracy"] = (
        "f1"  # strict, by entity: chooses the best checkpoint and stops early
    )


@dataclass(frozen=True)
class Prediction:
    """One tag a word, how sure the model is of each, and whether decoding had to change any."""

    tags: list[str]
    confidences: list[float]  # probability of each word's tag; 0 for a word without tokens
    is_repaired: bool  # the most probable tags were no valid sequence


def read(path: Path, params: Params) -> Dataset:
    """Read the sentences of a file. Raises DataError if there are none."""
    kind = params.format or ("jsonl" if path.suffix in (".jsonl", ".json") else "conll")
    if kind == "conll":
        rows, counts = tagged_text.read_conll(
            path, params.separator, params.word_column, params.tag_column
        )
    else:
        rows, counts = tagged_text.read_jsonl(
            path,
            params.tokens_field,
            params.tags_field,
            params.text_field,
            params.spans_field,
            params.span_end == "inclusive",
        )
    if not rows:
        raise DataError(f"{path} holds no sentence (format {kind!r}); is it the right file?")
    counts |= {
        "sentences": len(rows),
        "words": sum(len(row.words) for row in rows),
        "entities": sum(len(row.entities) for row in rows),
    }
    return Dataset(path, list(rows), counts)


def label_set(dataset: Dataset, params: Params) -> list[str]:
    """The tags of all entity types of the training rows. Raises DataError if there are none."""
    types = {entity.type for row in dataset.rows for entity in row.entities}
    if not types:
        raise DataError(f"{dataset.path} holds no entity, so there is nothing to learn")
    return tags.tag_set(types)


def check_labels(dataset: Dataset, labels: Sequence[str]) -> None:
    """Raise DataError at the first entity of a type that the training rows lack."""
    types = {label[2:] for label in labels if label.startswith("B-")}
    for row in dataset.rows:
        for entity in row.entities:
            if entity.type not in types:
                raise DataError(
                    f"{dataset.path}:{row.line_of(entity.start)}: label {entity.type!r} is not in "
                    f"the label set ({', '.join(sorted(types))}), which comes from the training "
                    "file; correct the label or add training rows with it"
                )


def from_inputs(inputs: Sequence[dict[str, Any]], params: Params) -> Dataset:
    """Rows to predict, from objects with `tokens` or `text`; DataError if one has neither."""
    rows: list[Sentence] = []
    for number, given in enumerate(inputs, start=1):
        tokens, text = given.get(params.tokens_field), given.get(params.text_field)
        if isinstance(tokens, list) and all(isinstance(token, str) for token in tokens):
            rows.append(tagged_text.from_words(tokens, [], number))
        elif isinstance(text, str):
            rows.append(tagged_text.from_text(text, [], number))
        else:
            raise DataError(
                f"input {number} has neither a string {params.text_field!r} nor a list of strings "
                f"{params.tokens_field!r}; it has {', '.join(map(repr, given)) or 'nothing'}"
            )
    return Dataset(Path("input"), list(rows))


def encode(
    dataset: Dataset,
    tokenizer: Tokenizer,
    labels: Sequence[str],
    params: Params,
    max_length: int,
) -> Encoded:
    """Every sentence as one or more windows; no word is cut off."""
    ids = {label: i for i, label in enumerate(labels)}
    template = tokenizer.single
    capacity = max_length - template.num_special
    counts: Counter[str] = Counter()
    windows: list[Window] = []
    for i, (row, tokens, first, word) in enumerate(located(dataset.rows, tokenizer, counts)):
        targets = np.array([ids.get(tag, IGNORED) for tag in row.tags], dtype=np.int64)[word]
        counts["words_without_tokens"] += len(row.words) - len(word)
        starts = window_starts(len(tokens.ids), capacity, params.window_overlap)
        counts["sentences_in_windows"] += len(starts) > 1
        owner = owners(first, starts, capacity, len(tokens.ids))
        for k, start in enumerate(starts):
            owned = owner == k
            if not owned.any():
                continue
            input_ids, _, offset = template.build(tokens.ids[start : start + capacity])
            positions = first[owned] - start + offset
            windows.append(Window(i, input_ids, None, positions, targets[owned], word[owned]))
        counts["tokens"] += len(tokens.ids)
    return Encoded(windows, dict(counts))


def located(
    rows: Sequence[Sentence], tokenizer: Tokenizer, counts: Counter[str]
) -> list[tuple[Sentence, Tokens, NDArray[np.int64], NDArray[np.int64]]]:
    """Of every sentence its tokens, the first token of each word that has one, and that word."""
    found = []
    for row, tokens in zip(rows, tokenizer.tokens([row.text for row in rows]), strict=True):
        first, word, is_shared = first_tokens(tokens, np.array(row.offsets, dtype=np.int64))
        if is_shared:
            counts["sentences_spaced_out"] += 1
            text, offsets = words.join(row.words, spaced=True)
            tokens = tokenizer.tokens([text])[0]
            first, word, _ = first_tokens(tokens, np.array(offsets, dtype=np.int64))
        found.append((row, tokens, first, word))
    return found


def first_tokens(
    tokens: Tokens, places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """First token of each word that has one, those words, and whether a token covers two words."""
    places = places.reshape(-1, 2)
    starts, ends = tokens.offsets[:, 0], tokens.offsets[:, 1]
    first_word = np.searchsorted(places[:, 1], starts, side="right")  # first that ends after it
    last_word = np.searchsorted(places[:, 0], ends, side="left") - 1  # last that begins before it
    covers = np.flatnonzero((first_word <= last_word) & (starts < ends))
    word, index = np.unique(first_word[covers], return_index=True)
    is_shared = bool((last_word[covers] > first_word[covers]).any())
    return covers[index], word, is_shared


def window_starts(num_tokens: int, capacity: int, overlap: int) -> list[int]:
    """Where windows begin; the last one ends with the text, so all long windows are full."""
    if num_tokens <= capacity:
        return [0]
    stride = capacity - min(overlap, capacity // 2)
    return [*range(0, num_tokens - capacity, stride), num_tokens - capacity]


def owners(
    positions: NDArray[np.int64], starts: Sequence[int], capacity: int, num_tokens: int
) -> NDArray[np.int64]:
    """The window that shows the most context on the poorer side of each position."""
    begin = np.array(starts)[:, None]
    end = np.minimum(begin + capacity, num_tokens)
    left = np.where(begin == 0, num_tokens, positions - begin)  # the text's edges hide nothing
    right = np.where(end == num_tokens, num_tokens, end - 1 - positions)
    inside = (positions >= begin) & (positions < end)
    owner: NDArray[np.int64] = np.where(inside, np.minimum(left, right), -1).argmax(axis=0)
    return owner


def decode(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> list[Prediction]:
    """The most probable valid tags of every sentence."""
    parts: dict[int, list[int]] = defaultdict(list)
    for i, window in enumerate(encoded.windows):
        parts[window.row].append(i)
    allowed = tags.allowed_transitions(labels)
    found = []
    for i, row in enumerate(dataset.rows):
        chosen: list[str | None] = [None] * len(row.words)
        confidences = [0.0] * len(row.words)
        is_repaired = False
        if parts[i]:
            scores = log_softmax(np.concatenate([logits[k] for k in parts[i]]))
            word = np.concatenate([encoded.windows[k].words for k in parts[i]])
            best = tags.decode(scores, allowed)
            is_repaired = bool((best != scores.argmax(axis=1)).any())
            sure = np.exp(scores[np.arange(len(best)), best])
            for w, label, confidence in zip(word.tolist(), best, sure.tolist(), strict=True):
                chosen[w] = labels[label]
                confidences[w] = confidence
        found.append(Prediction(fill_gaps(chosen), confidences, is_repaired))
    return found


def loss(dataset: Dataset, labels: Sequence[str], params: Params) -> Loss:
    """Cross-entropy of tags."""
    return Loss()


def calibrate(
    dataset: Dataset,
    encoded: Encoded,
    logits: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    decoding: Mapping[str, Any],
) -> dict[str, Any]:
    """Decoding as fitted on valid rows."""
    return dict(decoding)


def groups(dataset: Dataset) -> list[int]:
    """The document of every sentence."""
    return list(range(len(dataset.rows)))


def texts(row: Sentence) -> tuple[str, ...]:
    """What leak checks compare."""
    return (row.text,)


def fill_gaps(chosen: Sequence[str | None]) -> list[str]:
    """Tags of words without tokens: inside the entity that goes on after them, else outside."""
    filled: list[str] = []
    for i, tag in enumerate(chosen):
        if tag is None:
            after = next((later for later in chosen[i:] if later is not None), tags.OUTSIDE)
            before = filled[-1] if filled else tags.OUTSIDE
            tag = after if after.startswith("I-") and before[2:] == after[2:] else tags.OUTSIDE
        filled.append(tag)
    return filled


def score(dataset: Dataset, predictions: Sequence[Prediction], labels: Sequence[str]) -> Scores:
    """Strict entity scores, token scores, and how often decoding had to repair tags."""
    from finetune import metrics  # late: see its docstring

    gold = [row.tags for row in dataset.rows]
    scores = metrics.tagging(gold, [prediction.tags for prediction in predictions], labels)
    decoding = {
        "method": "viterbi over valid IOB2 sequences",
        "sentences_repaired": sum(prediction.is_repaired for prediction in predictions),
    }
    return Scores(scores.metrics, {**scores.report, "decoding": decoding})


def baselines(
    train: Dataset, dataset: Dataset, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """`majority`: the most frequent tag everywhere; `lookup`: each word's most frequent tag in the
    training rows."""
    from finetune import metrics  # late: see its docstring

    by_word: dict[str, Counter[str]] = defaultdict(Counter)
    for row in train.rows:
        for word, tag in zip(row.words, row.tags, strict=True):
            by_word[word][tag] += 1
    overall = sum(by_word.values(), Counter[str]())
    most = max(sorted(overall), key=lambda tag: overall[tag])
    lookup = {word: max(sorted(seen), key=lambda t: seen[t]) for word, seen in by_word.items()}
    gold = [row.tags for row in dataset.rows]
    guesses = {
        "majority": [[most] * len(row.words) for row in dataset.rows],
        "lookup": [[lookup.get(word, most) for word in row.words] for row in dataset.rows],
    }
    return {
        name: metrics.tagging(
            gold, [tags.iob2(tags.spans(row), len(row)) for row in guess], labels
        ).metrics
        for name, guess in guesses.items()
    }


def answer(row: Sentence, prediction: Prediction, labels: Sequence[str]) -> dict[str, Any]:
    """Entities with characters of the text and the mean probability of their words' tags."""
    found = []
    for span in tags.spans(prediction.tags):
        start, end = row.offsets[span.start][0], row.offsets[span.end - 1][1]
        sure = [c for c in prediction.confidences[span.start : span.end] if c > 0]
        found.append(
            {
                "start": start,
                "end": end,
                "label": span.type,
                "text": row.text[start:end],
                "confidence": round(sum(sure) / len(sure), 4),
            }
        )
    return {"text": row.text, "entities": found}
