"""The closing lines of a task on the console: a table of scores, one column a split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.reports import headline

GAP = "   "


def lines(report: Mapping[str, Any], page: Path) -> list[str]:
    """The score of the exported model with its 95 % interval, what it is compared with, what is
    known of the rows elsewhere, and where the rest is."""
    splits = [split for split in headline.SPLITS if split in report]
    found = report["headline"]
    metric = report["metric"]
    rows = [("", *splits), (metric, *(with_interval(report, split, metric) for split in splits))]
    first = found[splits[0]]
    count = first["seeds"]["count"]
    if count > 1:
        cells = (headline.mean_in_words(found[split]["seeds"]) for split in splits)
        rows.append((f"  mean of {count} seeds", *cells))
    if first["control"] is not None:
        cells = (headline.mean_in_words(found[split]["control"]) for split in splits)
        rows.append(("  without pretraining", *cells))
    for name in first["baselines"]:
        values = (found[split]["baselines"].get(name) for split in splits)
        label = f"  {name.replace('_', ' ')}"
        rows.append((label, *("" if value is None else f"{value:.4f}" for value in values)))
    others = [name for name in report[splits[0]]["metrics"] if name != metric]
    rows += [
        (name.replace("_", " "), *(with_interval(report, split, name) for split in splits))
        for name in others
    ]
    told = [
        f"  {split}: " + " ".join(f"({each})" for each in headline.known(found[split]))
        for split in splits
    ]
    return [title(report), *aligned(rows), *told, f"  more in {page}"]


def title(report: Mapping[str, Any]) -> str:
    """For example `people: best of 3 seeds (seed 2), step 24`."""
    training, seeds = report["training"], report["seeds"]["seeds"]
    which = f"best of {len(seeds)} seeds on valid, " if len(seeds) > 1 else ""
    return f"{report['task']}: {which}seed {training['seed']}, step {training['best_step']}"


def with_interval(report: Mapping[str, Any], split: str, metric: str) -> str:
    value = report[split]["metrics"].get(metric)
    interval = headline.interval_in_words(report[split]["intervals"].get(metric))
    return "" if value is None else f"{value:.4f}" + (f" ({interval})" if interval else "")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The cells of each column below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + GAP.join(map(str.ljust, row, widths)).rstrip() for row in rows]
