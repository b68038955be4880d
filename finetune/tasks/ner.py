"""Named entity recognition."""

from typing import Literal

from finetune.task import Task


class Params(Task):
    """Entities as spans of words, learnt as one tag per word."""

    kind: Literal["ner"] = "ner"
    format: Literal["conll", "jsonl"] | None = None  # None: jsonl by file name, else conll
    separator: Literal["whitespace", "tab"] = "whitespace"  # between CoNLL columns
    word_column: int = 0  # of CoNLL lines; negative counts from the end
    tag_column: int = -1
    tokens_field: str = "tokens"  # JSONL: words and tags ...
    tags_field: str = "tags"
    text_field: str = "text"  # ... or text and character spans {start, end, label}
    spans_field: str = "spans"
    span_end: Literal["exclusive", "inclusive"] = "exclusive"
    tag_scheme: Literal["detect", "iob1", "iob2"] = "detect"  # of tags in the files
    window_overlap: int = 64  # tokens shared by neighbouring windows of a long text
    metric: Literal["f1", "precision", "recall", "token_accuracy"] = (
        "f1"  # strict, by entity: chooses the best checkpoint and stops early
    )
