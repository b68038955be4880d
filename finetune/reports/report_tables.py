"""The tables of a report.json that its page and its model card both show."""

from collections.abc import Iterator, Mapping
from typing import Any

from finetune.reports import headline, tables
from finetune.reports.tables import Cell, Table
from runtime.readable import duration

AVERAGES = ("micro", "macro", "weighted")


def splits_of(report: Mapping[str, Any]) -> list[str]:
    """The scored splits of a report, valid first."""
    return [split for split in headline.SPLITS if split in report]


def scores(report: Mapping[str, Any]) -> Table:
    """The task's metric beside what it has to be compared with."""
    found = report["headline"]
    first = next(iter(found.values()))
    count = first["seeds"]["count"]
    head = [tables.words(report["metric"]), "fine-tuned", "95 % interval"]
    head += [f"mean of {count} seeds"] if count > 1 else []
    head += ["without pretraining"] if first["control"] is not None else []
    head += [tables.words(name) for name in first["baselines"]]
    rows: list[list[Cell]] = []
    for split, each in found.items():
        row = [split, score(each["value"]), headline.interval_in_words(each["interval"])]
        row += [headline.mean_in_words(each["seeds"])] if count > 1 else []
        row += [] if first["control"] is None else [headline.mean_in_words(each["control"])]
        row += [score(each["baselines"].get(name)) for name in first["baselines"]]
        rows.append(list(row))
    return Table("", head, rows)


def metrics(report: Mapping[str, Any]) -> Table:
    """Every metric of each split: of the exported model with its interval, over the seeds."""
    splits = splits_of(report)
    has_seeds = len(report["seeds"]["seeds"]) > 1
    head = ["metric"]
    for split in splits:
        head += [split, "95 % interval"] + (["mean of seeds"] if has_seeds else [])
    rows: list[list[Cell]] = []
    for metric in report[splits[0]]["metrics"]:
        row: list[Cell] = [tables.words(metric)]
        for split in splits:
            row.append(score(report[split]["metrics"].get(metric)))
            row.append(headline.interval_in_words(report[split]["intervals"].get(metric)))
            if has_seeds:
                row.append(headline.mean_in_words(report["seeds"][split][metric]))
        rows.append(row)
    return Table("", head, rows)


def known(report: Mapping[str, Any]) -> list[str]:
    """What is known of the rows of each scored split elsewhere."""
    return [
        f"{split}: {'; '.join(headline.known(each))}." for split, each in report["headline"].items()
    ]


def notes(report: Mapping[str, Any]) -> list[str]:
    """What was found in the training rows, how the shards were searched, and what training with
    other tasks brought."""
    leaks = report.get("leaks") or {}
    found = [leaks[part]["words"] for part in ("train", "pretraining") if part in leaks]
    transfer = report.get("transfer") or {}
    found += [
        f"{split}, beside the task trained alone: {transfer[split]['words']}"
        for split in headline.SPLITS
        if split in transfer
    ]
    return [f"{words[0].upper()}{words[1:]}." for words in found]


def by_label(report: Mapping[str, Any]) -> list[Table]:
    """Scores by entity type, by label, by tag, with their averages; of a split's `report`."""
    found = []
    for title, part, key in (
        ("By entity type, strict", report.get("entities"), "by_type"),
        ("By label", report, "by_label"),
    ):
        if part and part.get(key):
            averages = {
                f"{name} average": part[name]
                for name in AVERAGES
                if isinstance(part.get(name), Mapping)
            }
            rows = [{"": name, **row} for name, row in {**part[key], **averages}.items()]
            found.append(tables.of_rows(rows, title))
    return found


def modes(final: Mapping[str, Any]) -> list[Table]:
    """seqeval's averages in both of its modes, of a split's `final`."""
    rows = [
        {"mode": name, "scheme": found["scheme"] or "any prefix", "average": average}
        | found[average]
        for name, found in final.get("seqeval", {}).items()
        for average in AVERAGES
    ]
    return [tables.of_rows(rows, "seqeval, strict and as it is by default")] if rows else []


def data(report: Mapping[str, Any]) -> Table:
    """What reading and encoding counted: a row each, a column a split."""
    counts = report["data"]
    names = dict.fromkeys(name for found in counts.values() for name in found)
    rows = [[tables.words(name), *(counts[split].get(name) for split in counts)] for name in names]
    return Table("", ["", *counts], rows)


def runs(report: Mapping[str, Any]) -> Table:
    """The training runs: where each was best, and for how long it trained."""
    rows = [*runs_of(report["seeds"], report["metric"], "")]
    if report["control"] is not None:
        control = report["control"]["seeds"]
        rows += runs_of(control, report["metric"], ", without pretraining")
    metric = tables.words(report["metric"])
    return Table("", ["run", f"valid {metric}", "best at step", "time"], rows)


def runs_of(seeds: Mapping[str, Any], metric: str, suffix: str) -> Iterator[list[Cell]]:
    values = seeds["valid"][metric]["values"]
    for i, seed in enumerate(seeds["seeds"]):
        seconds = duration(seeds["seconds"][i])
        yield [f"seed {seed}{suffix}", score(values[i]), seeds["best_steps"][i], seconds]


def decoding(report: Mapping[str, Any]) -> list[Table]:
    """How answers are made of outputs, and what was fitted for it; a CRF's matrix is left out."""
    found = {name: each for name, each in report["decoding"].items() if name != "transitions"}
    return tables.of(found)


def exports(report: Mapping[str, Any]) -> list[Table]:
    """What exporting measured, with sizes as people read them."""
    found = report["exports"]
    named = found.items() if isinstance(found, Mapping) else enumerate(found or [])
    rows = []
    for name, row in named:
        each = {"export": name, **row} if isinstance(name, str) else dict(row)
        if "bytes" in each:
            each["megabytes"] = f"{each.pop('bytes') / tables.BYTES:,.1f}"
        rows.append(each)
    return tables.of(rows)


def score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
