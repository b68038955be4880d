"""Predict with a fine-tuned model.

    predict = finetune.predict.load("output/finetune/ner/export")
    predict(["Ada Lovelace was born in London."])

Inputs are texts or objects with the task's fields (`text`; `tokens` for given words; a pair's
second field). NER answers {"text", "entities": [{"start", "end", "label", "text", "confidence"}]}
with character offsets, classification {"label", "probabilities"}. Answers come in input order;
inside, inputs of like length run together.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from finetune import contamination, encoder, runners
from finetune.collate import MODEL_INPUTS, collate, length_groups, split_outputs
from finetune.task import Dataset, Encoded
from finetune.tokenizer import Tokenizer
from runtime import plugins, provenance
from runtime.errors import DataError

Input = str | dict[str, Any]
BATCH_TOKENS = 512  # padding included; small batches are fastest on CPUs
CHUNK = 1024  # inputs read, ordered by length and answered together


@dataclass(frozen=True)
class Predictor:
    """A fine-tuned model with everything it needs to answer."""

    plugin: ModuleType
    task: Any  # the plug-in's Params
    labels: list[str]
    decoding: dict[str, Any]
    max_length: int
    tokenizer: Tokenizer
    run: runners.Runner

    def __call__(self, inputs: Sequence[Input]) -> list[dict[str, Any]]:
        """Answer inputs, in their order. Raises DataError if one lacks a field."""
        if isinstance(inputs, str):
            raise TypeError("pass a list of texts, not one text")
        objects = [self.as_object(given) for given in inputs]
        dataset = self.plugin.from_inputs(objects, self.task)
        predictions = self.predictions(dataset)
        rows = zip(dataset.rows, predictions, strict=True)
        return [self.plugin.answer(row, found, self.labels) for row, found in rows]

    def as_object(self, given: Input) -> dict[str, Any]:
        if isinstance(given, dict):
            return given
        name = self.task.text_field
        return {name if isinstance(name, str) else "text": given}

    def predictions(self, dataset: Dataset) -> list[Any]:
        """The plug-in's predictions for rows, in their order."""
        encoded = self.encode(dataset)
        return list(
            self.plugin.decode(dataset, encoded, self.logits(encoded), self.labels, self.decoding)
        )

    def encode(self, dataset: Dataset) -> Encoded:
        found: Encoded = self.plugin.encode(
            dataset, self.tokenizer, self.labels, self.task, self.max_length
        )
        return found

    def logits(self, encoded: Encoded) -> list[NDArray[np.float32]]:
        """The scored logits (N, L) of every window."""
        windows = encoded.windows
        found: dict[int, NDArray[np.float32]] = {}
        lengths = [len(window.input_ids) for window in windows]
        for group in length_groups(lengths, BATCH_TOKENS):
            batch = [windows[i] for i in group]
            arrays = collate(batch, self.plugin.HEAD, self.tokenizer.pad_id)
            logits = self.run({name: arrays[name] for name in MODEL_INPUTS if name in arrays})
            scored = logits.reshape(-1, logits.shape[-1])[arrays["positions"]]
            found |= dict(zip(group, split_outputs(scored, batch), strict=True))
        return [found[i] for i in range(len(windows))]


def load(folder: Path | str, runtime: Literal["torch", "onnx"] = "torch") -> Predictor:
    """Open an exported model. Raises DataError if it is none or its tokenizer was changed."""
    folder = Path(folder)
    facts_file = folder / encoder.FACTS
    if not facts_file.is_file():
        raise DataError(
            f"{folder} is no fine-tuned model: it has no {encoder.FACTS}; "
            "give the export folder of a task"
        )
    facts = provenance.read_json(facts_file)
    if "labels" not in facts:
        raise DataError(f"{folder} is an encoder, not a task model; fine-tune it first")
    plugin = plugins.find("finetune.tasks", facts["task"]["kind"])
    tokenizer, _ = encoder.load_tokenizer(folder)
    if runtime == "onnx":
        if not (folder / runners.ONNX_FILE).is_file():
            raise DataError(f"{folder} has no {runners.ONNX_FILE}; run `finetune export` first")
        run = runners.onnx_runner(folder / runners.ONNX_FILE)
    else:
        run = runners.torch_runner(folder, plugin.HEAD)
    task = plugin.Params.model_validate_json(json.dumps(facts["task"]))
    return Predictor(
        plugin,
        task,
        facts["labels"],
        facts.get("decoding", {}),
        facts["max_length"],
        tokenizer,
        run,
    )


def predict_lines(predictor: Predictor, source: Iterable[str], target: TextIO) -> int:
    """Answer JSON lines (strings or objects) with JSON lines that keep the input's other fields;
    returns how many."""
    count = 0
    for chunk in chunks(read_inputs(source)):
        for given, answer in zip(chunk, predictor(chunk), strict=True):
            kept = given if isinstance(given, dict) else {"text": given}
            target.write(json.dumps({**kept, **answer}, ensure_ascii=False) + "\n")
        target.flush()
        count += len(chunk)
    return count


def read_inputs(source: Iterable[str]) -> Iterator[Input]:
    for number, line in enumerate(source, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"input line {number} is not valid JSON ({error})") from None
        if not isinstance(value, (str, dict)):
            raise DataError(f"input line {number} must be a JSON string or object")
        yield value


def chunks(inputs: Iterator[Input]) -> Iterator[list[Input]]:
    while chunk := list(islice(inputs, CHUNK)):
        yield chunk


def main(folder: Path, runtime: Literal["torch", "onnx"]) -> None:
    """Standard input to standard output."""
    predictor = load(folder, runtime)
    source = (line.decode("utf-8") for line in sys.stdin.buffer)
    try:
        predict_lines(predictor, source, sys.stdout)
    except UnicodeDecodeError as error:
        raise DataError(f"the input is not UTF-8: {error}") from None


def evaluate(folder: Path, file: Path, runtime: Literal["torch", "onnx"]) -> dict[str, Any]:
    """The scores of a model on a labelled file. Raises DataError at an unknown label."""
    predictor = load(folder, runtime)
    dataset = predictor.plugin.read(file, predictor.task)
    predictor.plugin.check_labels(dataset, predictor.labels)
    scores = predictor.plugin.score(dataset, predictor.predictions(dataset), predictor.labels)
    known = encoder.facts_of(folder).get("contamination", {})
    told = known.get(provenance.file_fingerprint(file), contamination.UNKNOWN)
    return {"data": dataset.counts, "contamination": told, **asdict(scores)}


def rows(folder: Path, file: Path) -> Dataset:
    """The labelled rows of a file in the format of a model's task."""
    predictor = load(folder)
    found: Dataset = predictor.plugin.read(file, predictor.task)
    return found
