"""Predict with a fine-tuned model; torch is imported only if it is the runtime.

    answer = predict.load("output/finetune/ner/export", "onnx-int8")
    answer(["Ada Lovelace was born in London."])

Inputs are texts or objects with the task's fields (`text`; `tokens` for given words; a pair's
second field). NER answers {"text", "entities": [{"start", "end", "label", "text", "confidence"}]}
with character offsets, classification {"label", "probabilities"}. Answers come in input order;
inside, inputs of like length run together. `answer.at(0.8)` predicts only entities (or labels of a
multi-label task) of at least that probability. Windows, document context, decoding and calibration
are those of training whatever the runtime: they are the task's plug-in, which is numpy.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from finetune import model_folder, runners
from finetune.collate import MODEL_INPUTS, collate, length_groups, split_outputs
from finetune.reports import contamination
from finetune.runners import Runner, Runtime
from finetune.task import Dataset, Encoded
from finetune.tokenizer import Tokenizer
from runtime import plugins, provenance
from runtime.errors import DataError

Input = str | dict[str, Any]
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
    runner: Runner
    batch_tokens: int  # of a forward at most, padding included

    def __call__(self, inputs: Sequence[Input]) -> list[dict[str, Any]]:
        """Answer inputs, in their order. Raises DataError if one lacks a field."""
        if isinstance(inputs, str):
            raise TypeError("pass a list of texts, not one text")
        dataset = self.rows(inputs)
        predictions = self.predictions(dataset)
        rows = zip(dataset.rows, predictions, strict=True)
        return [self.plugin.answer(row, found, self.labels) for row, found in rows]

    def at(self, threshold: float | None) -> "Predictor":
        """This model with another probability from which entities or labels are predicted; None:
        as it was fitted. Raises DataError if its task predicts none by probability."""
        if threshold is None:
            return self
        if not hasattr(self.plugin, "with_threshold"):
            raise DataError(
                f"a {self.task.kind} model gives every row one answer; leave the threshold out"
            )
        if not 0 < threshold <= 1:
            raise DataError(f"a threshold is a probability above 0, at most 1, not {threshold:g}")
        given = self.plugin.with_threshold(self.decoding, threshold, self.labels)
        return replace(self, decoding=given)

    def rows(self, inputs: Sequence[Input]) -> Dataset:
        """Inputs as rows without labels."""
        name = self.task.text_field
        text = name if isinstance(name, str) else "text"
        objects = [given if isinstance(given, dict) else {text: given} for given in inputs]
        found: Dataset = self.plugin.from_inputs(objects, self.task)
        return found

    def predictions(self, dataset: Dataset) -> list[Any]:
        """The plug-in's predictions for rows, in their order."""
        encoded = self.encode(dataset)
        return self.decode(dataset, encoded, self.logits(encoded))

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
        for group in length_groups(lengths, self.batch_tokens):
            batch = [windows[i] for i in group]
            arrays = collate(batch, self.plugin.HEAD, self.tokenizer.pad_id)
            inputs = {name: arrays[name] for name in MODEL_INPUTS if name in arrays}
            logits = self.runner.run(inputs)
            scored = logits.reshape(-1, logits.shape[-1])[arrays["positions"]]
            found |= dict(zip(group, split_outputs(scored, batch), strict=True))
        return [found[i] for i in range(len(windows))]

    def decode(
        self, dataset: Dataset, encoded: Encoded, logits: Sequence[NDArray[np.float32]]
    ) -> list[Any]:
        return list(self.plugin.decode(dataset, encoded, logits, self.labels, self.decoding))


def load(
    folder: Path | str,
    runtime: Runtime = "torch",
    threads: int | None = None,
    batch_tokens: int | None = None,
) -> Predictor:
    """Open an exported model. Raises DataError if it is none or its tokenizer was changed.

    `threads` of the CPU, None: OMP_NUM_THREADS or all cores; `batch_tokens` of a forward, padding
    included, None: what is fastest as a rule. A TFLite model has windows of its longest signature.
    """
    found = Path(folder)
    return opened(
        found,
        lambda head, pad_id: runners.open_runner(found, runtime, head, pad_id, threads),
        batch_tokens,
    )


def opened(
    folder: Path, open_runner: Callable[[str, int], Runner], batch_tokens: int | None = None
) -> Predictor:
    """The model of a folder on the runner that is opened for its head and padding id."""
    facts = model_folder.facts_of(folder)
    if not facts:
        raise DataError(
            f"{folder} is no fine-tuned model: it has no {model_folder.FACTS}; "
            "give the export folder of a task"
        )
    if "labels" not in facts:
        raise DataError(f"{folder} is an encoder, not a task model; fine-tune it first")
    plugin = plugins.find("finetune.tasks", facts["task"]["kind"])
    tokenizer, _ = model_folder.load_tokenizer(folder)
    runner = open_runner(plugin.HEAD, tokenizer.pad_id)
    return Predictor(
        plugin,
        plugin.Params.model_validate_json(json.dumps(facts["task"])),
        facts["labels"],
        facts.get("decoding", {}),
        min(facts["max_length"], runner.longest or facts["max_length"]),
        tokenizer,
        runner,
        batch_tokens or runner.batch_tokens,
    )


def predict_lines(predictor: Predictor, source: Iterable[bytes], target: TextIO) -> int:
    """Answer JSON lines (strings or objects) with JSON lines that keep the input's other fields;
    returns how many. Empty lines are passed over; a field that the answer has too is replaced."""
    count = 0
    for chunk in chunks(read_inputs(source), context_field(predictor.task)):
        inputs = [given for _, given in chunk]
        try:
            answers = predictor(inputs)
        except DataError as error:
            raise located(predictor, chunk) or error from None
        for given, answer in zip(inputs, answers, strict=True):
            kept = given if isinstance(given, dict) else {"text": given}
            target.write(json.dumps({**kept, **answer}, ensure_ascii=False) + "\n")
        target.flush()
        count += len(chunk)
    return count


def read_inputs(source: Iterable[bytes]) -> Iterator[tuple[int, Input]]:
    """Inputs and the numbers of their lines."""
    for number, raw in enumerate(source, start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            value = json.loads(line) if line.strip() else None
        except UnicodeDecodeError as error:
            raise DataError(
                f"input line {number} is not UTF-8 ({error.reason} at byte {error.start})"
            ) from None
        except ValueError as error:
            raise DataError(f"input line {number} is not valid JSON ({error})") from None
        if not line.strip():
            continue
        if not isinstance(value, str | dict):
            raise DataError(f"input line {number} must be a JSON string or object")
        yield number, value


def context_field(task: Any) -> str | None:
    """The field that says which document an input is of, if its neighbours are shown with it."""
    return task.document_field if getattr(task, "context", None) == "document" else None


def chunks(
    inputs: Iterable[tuple[int, Input]], document_field: str | None
) -> Iterator[list[tuple[int, Input]]]:
    """At least CHUNK inputs at a time, never an end inside a document."""
    chunk: list[tuple[int, Input]] = []
    for number, given in inputs:
        if len(chunk) >= CHUNK and not same_document(chunk[-1][1], given, document_field):
            yield chunk
            chunk = []
        chunk.append((number, given))
    if chunk:
        yield chunk


def same_document(before: Input, given: Input, field: str | None) -> bool:
    if field is None or isinstance(before, str) or isinstance(given, str):
        return False
    return given.get(field) is not None and before.get(field) == given.get(field)


def located(predictor: Predictor, chunk: Sequence[tuple[int, Input]]) -> DataError | None:
    """What is wrong with the first bad input, by its line; plug-ins count within what they got."""
    for number, given in chunk:
        try:
            predictor.rows([given])
        except DataError as error:
            return DataError(re.sub(r"^input 1\b", f"input {number}", str(error)))
    return None


def main(predictor: Predictor) -> None:
    """Standard input to standard output, both UTF-8 whatever the locale."""
    with open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False) as target:
        predict_lines(predictor, sys.stdin.buffer, target)


def evaluate(
    folder: Path,
    file: Path,
    runtime: Runtime = "torch",
    threads: int | None = None,
    threshold: float | None = None,
) -> dict[str, Any]:
    """The scores of a model on a labelled file, `threshold` as in Predictor.at. Raises DataError at
    an unknown label."""
    predictor = load(folder, runtime, threads).at(threshold)
    dataset = labelled(predictor, file)
    scores = predictor.plugin.score(dataset, predictor.predictions(dataset), predictor.labels)
    known = model_folder.facts_of(folder).get("contamination", {})
    told = known.get(provenance.file_fingerprint(file), contamination.UNKNOWN)
    return {"data": dataset.counts, "contamination": told, **asdict(scores)}


def labelled(predictor: Predictor, file: Path) -> Dataset:
    """The rows of a file in the format of a model's task. Raises DataError at an unknown label."""
    found: Dataset = predictor.plugin.read(file, predictor.task)
    predictor.plugin.check_labels(found, predictor.labels)
    return found
