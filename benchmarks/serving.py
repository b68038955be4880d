"""Serving a fine-tuned NER model beside transformers' pipeline: sentences per second and score.

    python benchmarks/serving.py [--quick] [--model EXPORT]

MiniLM-L6 (22 M parameters) is fine-tuned on 1,500 sentences of WNUT-17 (TEXTMILL_DATA, default
../shared/data) with three seeds and exported to ONNX in 32 and 8 bits (`--model` takes an export
that is there). Of the first model every runtime answers the same test sentences as text, on one
core with one thread, twice in turn, the quicker time counts: transformers' `pipeline` one sentence
at a time (its default) and in batches of 8, and `finetune.predict` with torch, ONNX and 8-bit ONNX,
which also decodes and calibrates. The score is strict entity F1 on the dev file, as the exports'
reports say it; what 8 bits cost is the mean over the models, because of one model they may gain as
well. `--quick` takes a few rows and one seed, and writes nothing.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import record
from fine_tuning import call, fine_tuned, recipe_of
from labelled_sets import SETS, written
from rich.console import Console
from rich.table import Table

from runtime import provenance

NAME = "serving"
RUNTIMES = ("pipeline", "pipeline-8", "torch", "onnx", "onnx-int8")
ROUNDS, CORE, TRAIN_ROWS = 2, 0, 1500
SEEDS = (1, 2, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few rows, no file")
    parser.add_argument("--model", type=Path, help="export folder of a WNUT-17 model")
    parser.add_argument("--measure", choices=RUNTIMES, help=argparse.SUPPRESS)  # a child process
    parser.add_argument("--texts", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(
            json.dumps({"seconds": measured(arguments.measure, arguments.model, arguments.texts)})
        )
        return
    exports: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = written("wnut17", folder, 200 if arguments.quick else TRAIN_ROWS)
        texts = sentences(files["test"], folder)
        given = arguments.model
        for model in [given] if given else trained(files, folder, arguments.quick):
            exports.append(provenance.read_json(model.parent / "report.json")["exports"])
            runs = runs or serve(model, texts)
    found = figures(runs, exports)
    if not arguments.quick:
        record.write(NAME, found, [*runs, *({"exports": each} for each in exports)])
    show(found)


def trained(files: Mapping[str, Path], folder: Path, is_quick: bool) -> Iterator[Path]:
    """The export folder of a model of each seed."""
    task = {
        "kind": "ner",
        **{split: str(path) for split, path in files.items()},
        "epochs": 1 if is_quick else SETS["wnut17"].epochs,
        "batch_size": 16,
        "learning_rate": 2e-4,
    }
    for seed in SEEDS[:1] if is_quick else SEEDS:
        room = folder / str(seed)
        room.mkdir()
        recipe = recipe_of(task, seed, room) | {"export": {"onnx": True, "onnx_int8": True}}
        with fine_tuned(recipe, CORE) as home:
            yield home / "export"


def sentences(test: Path, folder: Path) -> Path:
    """The test sentences as a JSON list of texts."""
    from finetune.tasks import ner

    rows = ner.read(test, ner.Params(train=test)).rows
    path = folder / "texts.json"
    path.write_text(json.dumps([row.text for row in rows]), encoding="utf-8")
    return path


def serve(model: Path, texts: Path) -> list[dict[str, Any]]:
    """Every runtime's seconds, in turn; each in a process of its own."""
    count = len(json.loads(texts.read_text(encoding="utf-8")))
    runs = []
    for turn in range(ROUNDS):
        for runtime in RUNTIMES:
            command = [sys.executable, __file__, "--measure", runtime]
            command += ["--model", str(model), "--texts", str(texts)]
            seconds = json.loads(call(command, CORE).splitlines()[-1])["seconds"]
            runs.append({"round": turn, "runtime": runtime, "sentences": count, "seconds": seconds})
            print(json.dumps(runs[-1]), flush=True)
    return runs


def measured(runtime: str, model: Path, path: Path) -> float:
    """Seconds to answer all texts, after some for warming up."""
    texts = json.loads(path.read_text(encoding="utf-8"))
    answer = answerer(runtime, model)
    answer(texts[:20])
    started = time.perf_counter()
    answer(texts)
    return time.perf_counter() - started


def answerer(runtime: str, model: Path) -> Callable[[list[str]], Any]:
    if not runtime.startswith("pipeline"):
        from finetune import predict

        return predict.load(model, runtime)
    import torch
    from transformers import pipeline

    torch.set_num_threads(1)
    size = 8 if runtime == "pipeline-8" else 1
    tagger = pipeline(
        "token-classification", str(model), aggregation_strategy="simple", device=-1,
        batch_size=size,
    )  # fmt: skip
    return lambda texts: tagger([text or " " for text in texts])


def figures(runs: list[dict[str, Any]], exports: list[dict[str, Any]]) -> dict[str, float]:
    """Sentences per second of each runtime's quickest round; points of each runtime and what 8 bits
    cost, means over the models, and the deviation of that."""
    found = {
        f"{runtime}_per_s": max(
            run["sentences"] / run["seconds"] for run in runs if run["runtime"] == runtime
        )
        for runtime in RUNTIMES
    }
    quickest = max(found["pipeline_per_s"], found["pipeline-8_per_s"])
    found["int8_ratio_pipeline"] = found["onnx-int8_per_s"] / found["pipeline_per_s"]
    found["int8_ratio_quickest_pipeline"] = found["onnx-int8_per_s"] / quickest
    scores = {
        name: [100 * each[name]["score_after"] for each in exports]
        for name in ("torch", "onnx", "onnx-int8")
    }
    found |= {f"{name}_score": statistics.fmean(points) for name, points in scores.items()}
    drops = [whole - less for whole, less in zip(scores["torch"], scores["onnx-int8"], strict=True)]
    found["int8_score_drop"] = statistics.fmean(drops)
    if len(drops) > 1:
        found["int8_score_drop_deviation"] = statistics.stdev(drops)
    return found


def show(found: dict[str, float]) -> None:
    """The table on the console."""
    table = Table("runtime", "sentences/s", "times the pipeline", "dev F1")
    for runtime in RUNTIMES:
        rate = found[f"{runtime}_per_s"]
        score = found.get(f"{runtime}_score")
        cells = (f"{rate:.0f}", f"{rate / found['pipeline_per_s']:.2f}")
        table.add_row(runtime, *cells, "" if score is None else f"{score:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
