"""Whether tasks are better together: every task beside its single-task control.

Of each scored split: the task's metric of both over the seeds; of the exported models, on the same
rows, the difference with its 95 % interval and two one-sided p of the paired bootstrap
(finetune/scores/bootstrap.py), for a gain and for a loss. A significant loss is negative transfer
and said to be so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.multitask.controls import Alone
from finetune.prepare import Prepared
from finetune.reports import headline, report, summary
from finetune.reports.report import Trained
from finetune.scores import bootstrap

SIGNIFICANT = 0.05  # p at or below it
HEAD = ("task", "split", "metric", "together", "alone", "difference", "95 % interval", "p")


def of(task: Prepared, runs: Sequence[Trained], alone: Alone) -> dict[str, Any]:
    """A task's scores beside its control's, as report.json holds them; the first run is the one
    that was exported."""
    seeds = report.by_seed(runs)
    found: dict[str, Any] = {"control": alone.source, "metric": task.task.metric}
    for split in task.scored:
        both = {
            name: headline.over_seeds(over, split, task.task.metric)
            for name, over in (("together", seeds), ("alone", alone.seeds))
        }
        compared = both | of_exported(task, split, runs[0], alone)
        compared["words"] = words(task.task.metric, compared)
        found[split] = compared
    return found


def of_exported(task: Prepared, split: str, trained: Trained, alone: Alone) -> dict[str, Any]:
    """The difference of the exported models on a split, and how sure it is."""
    plugin, metric = task.plugin, task.task.metric
    if not hasattr(plugin, "row_counts"):
        return {}
    ours, theirs = (
        plugin.row_counts(task.data[split], predictions, task.labels)
        for predictions in (trained.results[split].predictions, alone.predictions[split])
    )
    statistic = bootstrap.statistic(plugin, metric)
    gain = bootstrap.paired(ours, theirs, statistic)
    loss = bootstrap.paired(theirs, ours, statistic)
    return {
        "difference": gain.difference,
        "low": gain.low,
        "high": gain.high,
        "p_gain": gain.p,
        "p_loss": loss.p,
    }


def words(metric: str, found: Mapping[str, Any]) -> str:
    """For example `negative transfer: f1 falls by 0.0312 (p = 0.004)`."""
    if "difference" not in found:
        change = found["together"]["mean"] - found["alone"]["mean"]
        return f"{metric} {change:+.4f}, not tested"
    change = found["difference"]
    p = p_of(found)
    if p > SIGNIFICANT or change == 0.0:
        return f"no clear difference: {metric} {change:+.4f} (p = {p:.4f})"
    if change < 0.0:
        return f"negative transfer: {metric} falls by {-change:.4f} (p = {p:.4f})"
    return f"positive transfer: {metric} rises by {change:.4f} (p = {p:.4f})"


def p_of(found: Mapping[str, Any]) -> float:
    """Of a change in the direction that was observed."""
    p: float = found["p_loss" if found["difference"] < 0.0 else "p_gain"]
    return p


def table(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row a task and split below the head."""
    return [HEAD, *(row(name, split, of_task) for name, of_task in found.items()
                    for split in headline.SPLITS if split in of_task)]  # fmt: skip


def row(name: str, split: str, of_task: Mapping[str, Any]) -> tuple[str, ...]:
    compared = of_task[split]
    means = (headline.mean_in_words(compared[key]) for key in ("together", "alone"))
    tested = ("", "", "")
    if "difference" in compared:
        interval = f"{compared['low']:+.4f} to {compared['high']:+.4f}"
        tested = (f"{compared['difference']:+.4f}", interval, f"{p_of(compared):.4f}")
    return name, split, of_task["metric"], *means, *tested


def lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table and what it means, for the console."""
    return [*summary.aligned(table(found)), *(f"  {each}" for each in verdicts(found))]


def verdicts(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the table says, a sentence a task and split."""
    return [
        f"{name}, {split}: {of_task[split]['words']}"
        for name, of_task in found.items()
        for split in headline.SPLITS
        if split in of_task
    ]


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The same as a Markdown table and list."""
    head, *rows = table(found)
    listed = [head, tuple("---" for _ in head), *rows]
    lines = ["| " + " | ".join(cells) + " |" for cells in listed]
    return "\n".join([*lines, "", *(f"- {each}" for each in verdicts(found))]) + "\n"
