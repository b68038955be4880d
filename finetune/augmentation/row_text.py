"""A labelled row as JSON that its task's reader accepts, and as a line for people. Torch-free."""

from collections.abc import Sequence
from typing import Any

from finetune.ner import words
from finetune.ner.tagged_text import Sentence


def as_json(row: Any, task: Any) -> dict[str, Any]:
    """The object of a row in a JSONL file, under the field names of the task's table."""
    if isinstance(row, Sentence):
        return sentence_as_json(row, task)
    fields = [task.text_field, task.text_pair_field][: len(row.texts)]
    label = list(row.label) if is_list(row.label) else row.label
    texts = {str(field): text for field, text in zip(fields, row.texts, strict=True)}
    return {**texts, str(task.label_field): label}


def sentence_as_json(row: Sentence, task: Any) -> dict[str, Any]:
    """Words and tags; text and spans of characters where words alone would lose white space."""
    if words.join(row.words)[0] == row.text:
        return {task.tokens_field: list(row.words), task.tags_field: row.tags}
    closed = task.span_end == "inclusive"
    spans = [
        {
            "start": row.offsets[entity.start][0],
            "end": row.offsets[entity.end - 1][1] - closed,
            "label": entity.type,
        }
        for entity in row.entities
    ]
    return {task.text_field: row.text, task.spans_field: spans}


def shown(row: Any) -> str:
    """The text with its entities in brackets, or the texts after their label."""
    if not isinstance(row, Sentence):
        label = ", ".join(row.label) if is_list(row.label) else row.label
        return f"{label}: {' || '.join(row.texts)}"
    parts = []
    end = 0
    for entity in row.entities:
        start, stop = row.offsets[entity.start][0], row.offsets[entity.end - 1][1]
        parts += [row.text[end:start], f"[{row.text[start:stop]}]({entity.type})"]
        end = stop
    return "".join([*parts, row.text[end:]])


def is_list(label: Any) -> bool:
    """True for the labels of a row that may have several."""
    return isinstance(label, Sequence) and not isinstance(label, str)
