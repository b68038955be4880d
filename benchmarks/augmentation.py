"""What each augmentation brings to a small NER set: NCBI-disease, 100 and 300 training sentences.

    python benchmarks/augmentation.py [--quick] [--fresh] [--sizes N ...] [--seeds N ...]
        [--work FOLDER]

MiniLM-L6 is fine-tuned on the first sentences of the training file (TEXTMILL_DATA, default
../shared/data) without and with one copy of every row by each operation for tagged sentences that
needs no model from elsewhere; strict entity F1 on the whole test file, mean and deviation over 3
seeds (of rows, of heads and of copies). The best epoch is chosen on the first 300 dev sentences,
rows are copied as a recipe's `augment` does. `contextual` and `masked_lm` ask MiniLM continued here
for a few minutes on the unlabelled text of the biomedical training files. Back-translation and a
causal language model need models that the package does not bring.

Two runs at a time, one on each core, one thread each; about half an hour in bf16. Runs that
results/augmentation.json holds already are not repeated unless `--fresh`; `--work` keeps the
continued model, as in pretraining_helps.py. `--quick` takes one seed, 20 sentences and one epoch,
and writes nothing.
"""

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import record
from fine_tuning import faster_precision, fine_tuned, on_both_cores, recipe_of
from labelled_sets import DATA, head
from pretraining_helps import pretrained
from rich.console import Console
from rich.table import Table

from runtime import provenance

NAME = "augmentation"
SIZES, SEEDS = (100, 300), (1, 2, 3)
VALID_ROWS, EPOCHS = 300, 10
NEED_MODEL = ("contextual", "masked_lm")
OPERATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "synonym": {},
    "contextual": {},
    "mention_replacement": {},
    "label_wise_replacement": {},
    "eda": {},
    "aeda": {},
    "flip": {},
    "masked_lm": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little of everything, no file")
    parser.add_argument("--fresh", action="store_true", help="repeat what is recorded already")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--work", type=Path, help="folder to keep the encoder in; default: none")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sizes, arguments.seeds = [20], [1]
    path = record.RESULTS / f"{NAME}.json"
    is_kept = path.is_file() and not arguments.fresh and not arguments.quick
    done: list[dict[str, Any]] = provenance.read_json(path)["raw"] if is_kept else []
    known = {(run["size"], run["operation"], run["seed"]) for run in done}
    wanted = [
        job
        for job in itertools.product(arguments.sizes, OPERATIONS, arguments.seeds)
        if job not in known
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = None
        if any(operation in NEED_MODEL for _, operation, _ in wanted):
            model = pretrained(arguments.work or folder, "ncbi-disease", "domain", arguments.quick)
        epochs = 1 if arguments.quick else EPOCHS
        for found in on_both_cores(
            wanted, lambda job, core: score(job, folder, model, core, epochs)
        ):
            done.append(found)
            print(json.dumps(found), flush=True)
            if not arguments.quick:
                record.write(NAME, figures(done), done)
    show(done)


def score(
    job: tuple[int, str, int], room: Path, model: Path | None, core: int, epochs: int
) -> dict[str, Any]:
    """Fine-tune on so many sentences with one operation; the test score."""
    size, operation, seed = job
    source = DATA / "ncbi-disease"
    with tempfile.TemporaryDirectory(dir=room) as name:
        folder = Path(name)
        augment = [{"kind": operation, **OPERATIONS[operation]}] if operation != "none" else []
        if operation in NEED_MODEL:
            augment[0]["model"] = str(model)
        task = {
            "kind": "ner",
            "separator": "tab",
            "train": str(head(source / "train.txt", folder / "train.txt", size)),
            "valid": str(head(source / "dev.txt", folder / "dev.txt", VALID_ROWS)),
            "test": str(source / "test.txt"),
            "epochs": epochs,
            "batch_size": 16,
            "learning_rate": 2e-4,
            "augment": augment,
        }
        with fine_tuned(recipe_of(task, seed, folder, faster_precision()), core) as home:
            report = provenance.read_json(home / "report.json")
    return {
        "size": size,
        "operation": operation,
        "seed": seed,
        "test": report["test"]["metrics"]["f1"],
        "augmentation": report["augmentation"],
    }


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean and deviation over the seeds, in points."""
    found = {}
    for size, operation in dict.fromkeys((run["size"], run["operation"]) for run in runs):
        scores = [
            100 * run["test"]
            for run in runs
            if (run["size"], run["operation"]) == (size, operation)
        ]
        found[f"{size}.{operation}"] = statistics.fmean(scores)
        found[f"{size}.{operation}_deviation"] = statistics.stdev(scores) if scores[1:] else 0.0
    return found


def show(runs: Sequence[dict[str, Any]]) -> None:
    """The table on the console: an operation a line, its gain over none beside its score."""
    found = figures(runs)
    sizes = list(dict.fromkeys(run["size"] for run in runs))
    table = Table("operation", *itertools.chain(*((f"{size} sentences", "gain") for size in sizes)))
    for operation in OPERATIONS:
        cells = []
        for size in sizes:
            mean, none = found.get(f"{size}.{operation}"), found.get(f"{size}.none")
            if mean is None:
                cells += ["", ""]
                continue
            deviation = found[f"{size}.{operation}_deviation"]
            cells += [
                f"{mean:.2f} ± {deviation:.2f}",
                "" if none is None else f"{mean - none:+.2f}",
            ]
        table.add_row(operation, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
