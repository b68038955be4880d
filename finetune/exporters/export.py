"""Export a fine-tuned model to other runtimes and prove what each is worth.

Every target runs real valid rows beside torch, on one CPU thread: the largest difference of a
logit, the share of equal decisions, the task's metric before and after, size and speed. A target is
written to a folder aside and moved beside the model only if it holds the limits of the recipe's
[export]: an fp32 target `parity_tolerance` of every logit, any target `max_score_drop` of the
metric. One that does not, and one whose packages are not installed, is an error that says so.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch

from finetune import predict, runners, torch_runner
from finetune.collate import MODEL_INPUTS, collate
from finetune.config import Export
from finetune.exporters import onnx, parity, speed, tflite
from finetune.exporters.parity import Measured
from finetune.predict import Predictor
from finetune.reports import summary
from finetune.runners import FILES, Inputs, Runtime
from finetune.task import Dataset
from runtime import processes
from runtime.errors import DataError, TextmillError, resource_error

log = logging.getLogger("textmill")

INT8 = "-int8"
MAX_ROWS = 2000  # of valid that are scored before and after: an export is no second test
EXPORTERS: dict[str, ModuleType] = {"onnx": onnx, "tflite": tflite}  # by the format's name


def on_rank_0(folder: Path, table: Export, rows: Dataset) -> dict[str, Any] | None:
    """Export what the recipe asks for. All ranks call it; a failure is raised on all of them."""
    found: dict[str, Any] | None = None
    fault: TextmillError | None = None
    if targets(table) and processes.rank() == 0:
        try:
            found = export(folder, table, rows)
        except TextmillError as error:
            fault = error
        except OSError as error:
            fault = resource_error(error)
            if fault is None:
                raise
    fault = processes.from_rank_0(fault)
    if fault is not None:
        raise fault
    return found


def targets(table: Export) -> list[Runtime]:
    """The runtimes a recipe asks for."""
    return [name for name in runners.RUNTIMES if getattr(table, name.replace("-", "_"), False)]


def check_installed(table: Export) -> None:
    """Raise DataError if the packages of a target are missing."""
    for name in targets(table):
        exporter = EXPORTERS[name.removesuffix(INT8)]
        missing = [module for module in exporter.MODULES if find_spec(module) is None]
        if missing:
            raise DataError(
                f"export.{name.replace('-', '_')} needs {', '.join(missing)}: "
                f"pip install 'textmill[{exporter.EXTRA}]', or set it to false"
            )


def export(folder: Path, table: Export, rows: Dataset) -> dict[str, Any]:
    """Write the targets beside the model in `folder`; what was measured of each, by target, torch
    first. Raises DataError naming every target that did not hold its limits."""
    check_installed(table)
    rows = Dataset(rows.path, rows.rows[:MAX_ROWS])
    found: dict[str, Any] = {}
    faults: list[str] = []
    with one_thread(), TemporaryDirectory(prefix=".export-", dir=folder) as name:
        work = Work(folder, Path(name), table, reference(folder), rows)
        before = parity.measure(work.reference, rows)
        found["torch"] = described(work.reference, "torch", before, weights(folder))
        for target, file in written(work):
            result = judged(work, target, before, file)
            fault = parity.fault(target, result, table)
            if fault is None:
                file.replace(folder / FILES[target])
                found[target] = result
            else:
                faults.append(fault)
    for line in lines(found):
        log.info(line)
    if faults:
        raise DataError("; ".join(faults))
    return found


@dataclass(frozen=True)
class Work:
    """One export under way."""

    folder: Path
    aside: Path  # where files lie until they are judged
    table: Export
    reference: Predictor
    rows: Dataset

    def open(self, target: Runtime, file: Path) -> Predictor:
        """A predictor with this file instead of torch."""
        pad_id = self.reference.tokenizer.pad_id
        if target.startswith("onnx"):
            runner = runners.open_onnx(file, threads=1)
        else:
            runner = runners.open_tflite(file, pad_id, threads=1)
        length = min(self.reference.max_length, runner.longest or self.reference.max_length)
        return replace(
            self.reference, runner=runner, max_length=length, batch_tokens=runner.batch_tokens
        )


def reference(folder: Path) -> Predictor:
    """The model as torch runs it on the CPU."""
    return predict.opened(
        folder, lambda head, _: torch_runner.open_model(folder, head, device_name="cpu")
    )


def written(work: Work) -> Iterator[tuple[Runtime, Path]]:
    """Every target with its file."""
    wanted = targets(work.table)
    head = work.reference.plugin.HEAD
    sample = sample_of(work.reference, work.rows)
    if any(name.startswith("onnx") for name in wanted):
        fp32 = work.aside / FILES["onnx"]
        onnx.write(work.folder, head, sample, work.table.opset, fp32)
        int8 = work.aside / FILES["onnx-int8"]
        if "onnx-int8" in wanted:  # now: what is yielded may be moved away
            onnx.write_int8(fp32, int8)
        if "onnx" in wanted:
            yield "onnx", fp32
        if "onnx-int8" in wanted:
            yield "onnx-int8", int8
    if any(name.startswith("tflite") for name in wanted):
        files: dict[str, Path] = {
            name: work.aside / FILES[name] for name in ("tflite", *wanted) if "tflite" in name
        }
        lengths = tflite.fitting(work.table.tflite_lengths, work.reference.max_length)
        tflite.write(work.folder, head, list(sample), lengths, files)
        for name in wanted:
            if name.startswith("tflite"):
                yield name, files[name]


def sample_of(predictor: Predictor, rows: Dataset) -> Inputs:
    """Three inputs of real rows."""
    windows = predictor.encode(Dataset(rows.path, rows.rows[:3])).windows
    if not windows:
        raise DataError(f"no text of {rows.path} gives any token; export with other rows")
    arrays = collate((windows * 3)[:3], predictor.plugin.HEAD, predictor.tokenizer.pad_id)
    return {name: arrays[name] for name in MODEL_INPUTS if name in arrays}


def judged(work: Work, target: Runtime, before: Measured, file: Path) -> dict[str, Any]:
    """What a file is worth."""
    predictor = work.open(target, file)
    after = parity.measure(predictor, work.rows)
    same = before
    if predictor.max_length != work.reference.max_length:  # other windows
        same = parity.measure(replace(work.reference, max_length=predictor.max_length), work.rows)
    return {
        **described(predictor, target, after, [file]),
        "score_before": before.score,
        "score_after": after.score,
        **parity.differences(same, after, work.table.parity_rows),
    }


def described(
    predictor: Predictor, target: Runtime, measured: Measured, files: Sequence[Path]
) -> dict[str, Any]:
    """Size, score and speed."""
    return {
        "target": target,
        "file": FILES.get(target, "model.safetensors"),
        "bytes": sum(file.stat().st_size for file in files),
        "max_length": predictor.max_length,
        "rows": measured.num_rows,
        "metric": predictor.task.metric,
        "score_after": measured.score,
        "sentences_per_second": speed.rows_per_second(measured.num_rows, measured.seconds),
        "latency_ms": speed.latencies(predictor, measured.encoded.windows),
    }


def weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table people read: a row each, one thread of the CPU."""
    metric = found["torch"]["metric"]
    lengths = list(found["torch"]["latency_ms"])
    head = [
        "export", "MB", metric, "largest difference", "decisions equal", "rows/s",
        *(f"ms of {length} tokens" for length in lengths),
    ]  # fmt: skip
    rows = []
    for target, row in found.items():
        agreement, latency = row.get("argmax_agreement"), row["latency_ms"]
        rows.append([
            target, f"{row['bytes'] / 1e6:.1f}", f"{row['score_after']:.4f}",
            f"{row['max_difference']:.1e}" if "max_difference" in row else "",
            f"{agreement:.4f}" if agreement is not None else "",
            f"{row['sentences_per_second']:.1f}",
            *(f"{latency[each]:.1f}" if each in latency else "" for each in lengths),
        ])  # fmt: skip
    return summary.aligned([head, *rows])


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch as fast as the others are allowed to be."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
