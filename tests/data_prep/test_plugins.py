"""The contract every reader and every cleaning step keeps, whoever wrote it."""

import csv
import inspect
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import units
from data_prep.cleaning import STEPS, Step
from data_prep.documents import Document, Reject
from data_prep.sources import READERS, Source
from runtime import plugins

TEXTS = [
    "A plain sentence.",
    "中文文本，没有空格。",
    "العربية من اليمين إلى اليسار",
    "emoji 😀 and combining e\u0301",
    "two  spaces\tand a tab",
    "[MASK] spells a special token",
]
DOCUMENTS = [
    *TEXTS, "", " ", "\n", "\u200b", "x" * 10_000, "a\r\nb\x07c", "Ã©", "\U0001f3f4\U000e0067"
]  # fmt: skip


FILE_A_TEXT = {"text": ("txt", "{}"), "markdown": ("md", "{}"), "html": ("html", "<p>{}</p>")}


def write(reader: str, folder: Path) -> Path:
    """The texts in the form a reader takes. A new reader needs a branch here."""
    path = folder / f"train.{reader}"
    if reader in ("jsonl", "hub"):
        path = folder / "train.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
        return folder if reader == "hub" else path
    if reader == "json":
        path.write_text(json.dumps([{"text": text} for text in TEXTS], indent=1))
    elif reader == "tsv":
        path.write_text("text\n" + "".join(f"{text}\n" for text in expected(reader)))
    elif reader == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["text"], *([text] for text in TEXTS)])
    elif reader in FILE_A_TEXT:
        ending, form = FILE_A_TEXT[reader]
        for number, text in enumerate(TEXTS):
            (folder / f"{number}.{ending}").write_text(form.format(text), encoding="utf-8")
        return folder
    elif reader == "conll":
        sentences = ["".join(f"{word}\tO\n" for word in text.split()) for text in TEXTS]
        path.write_text("-DOCSTART- O\n\n" + "\n-DOCSTART- O\n\n".join(sentences))
    elif reader == "warc":
        path.write_bytes(b"".join(wet_record(text) for text in TEXTS))
    else:
        assert reader == "parquet", f"say here how to write a corpus for the reader {reader!r}"
        pq.write_table(pa.table({"text": TEXTS}), path)
    return path


def wet_record(text: str) -> bytes:
    block = text.encode()
    head = f"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: {len(block)}\r\n\r\n"
    return head.encode() + block + b"\r\n\r\n"


def expected(reader: str) -> list[str]:
    """What a reader makes of the texts: what a format cannot hold is a space."""
    is_of_words = reader in ("conll", "html")
    if reader == "tsv":
        return [text.replace("\t", " ") for text in TEXTS]
    return [" ".join(text.split()) if is_of_words else text for text in TEXTS]


@pytest.mark.parametrize("reader", plugins.names(READERS))
def test_reader(reader: str, tmp_path: Path) -> None:
    module = plugins.find(READERS, reader)
    assert issubclass(module.Params, Source)
    assert module.Params.__doc__
    for word in (" id ", "uarantined") if reader != "tsv" else ():
        assert word in str(module.__doc__), "say what a document's id is and what is quarantined"
    assert list(inspect.signature(module.parts).parameters) == ["params"]
    assert list(inspect.signature(module.read).parameters) == ["part", "params", "name"]
    params = module.Params.model_validate(
        {"reader": reader, "path": str(write(reader, tmp_path)), "domain": "d"}
    )
    found = [
        document
        for unit in units.units_of("source", params)
        for document in units.read(unit, params)
    ]
    assert all(isinstance(document, Document) for document in found)
    documents = [document for document in found if isinstance(document, Document)]
    assert [document.text for document in documents] == expected(reader)
    assert {(document.source, document.domain) for document in documents} == {("source", "d")}
    assert len({document.id for document in documents}) == len(TEXTS)
    again = [d for unit in units.units_of("source", params) for d in units.read(unit, params)]
    assert again == found
    assert module.inputs(params) == module.inputs(params)
    assert all(file.version for file in module.inputs(params))


@pytest.mark.parametrize("name", plugins.names(STEPS))
def test_cleaning_step(name: str) -> None:
    module = plugins.find(STEPS, name)
    assert issubclass(module.Params, Step)
    assert module.Params.__doc__
    assert list(inspect.signature(module.clean).parameters) == ["document", "params"]
    params = module.Params.model_validate({"step": name})
    for text in DOCUMENTS:
        document = Document("id", text, "source", "domain", {"key": "value"})
        result = module.clean(document, params)
        assert document == Document("id", text, "source", "domain", {"key": "value"})
        assert result == module.clean(document, params)  # deterministic
        if isinstance(result, Reject):
            assert result.id == "id"
            assert result.kind == "dropped"
            continue
        assert (result.source, result.domain) == ("source", "domain")
        assert {"key": "value"}.items() <= result.metadata.items()
        assert module.clean(result, params) == result  # clean text stays as it is
