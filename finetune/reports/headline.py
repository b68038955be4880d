"""The numbers that stand for a task, each beside what it has to be compared with.

Made once, for report.json; the console, the page, the model card and `textmill report` show it.
"""

from collections.abc import Mapping
from typing import Any

SPLITS = ("valid", "test")


def of(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each scored split its metric: of the exported model with its interval, over the seeds,
    of the control and the baselines, and what is known of the rows elsewhere."""
    metric = report["metric"]
    return {split: of_split(report, split, metric) for split in SPLITS if split in report}


def of_split(report: Mapping[str, Any], split: str, metric: str) -> dict[str, Any]:
    control = report["control"]
    leaks = (report.get("leaks") or {}).get(split) or {}
    return {
        "metric": metric,
        "value": report[split]["metrics"][metric],
        "interval": report[split].get("intervals", {}).get(metric),
        "seeds": over_seeds(report["seeds"], split, metric),
        "control": None if control is None else over_seeds(control["seeds"], split, metric),
        "baselines": {
            name: found[metric]
            for name, found in report["baselines"][split].items()
            if metric in found
        },
        "contamination": report["contamination"][split]["words"],
        "leaks": leaks.get("words"),
    }


def over_seeds(found: Mapping[str, Any], split: str, metric: str) -> dict[str, Any]:
    """Mean and deviation of a metric, and of how many runs."""
    over = found[split][metric]
    return {
        "mean": over["mean"],
        "deviation": over["deviation"],
        "count": len(over["values"]),
    }


def interval_in_words(interval: Mapping[str, float] | None, digits: int = 4) -> str:
    """For example `0.9120-0.9780`; nothing if it is not known."""
    if interval is None:
        return ""
    return f"{interval['low']:.{digits}f}-{interval['high']:.{digits}f}"


def mean_in_words(over: Mapping[str, Any], digits: int = 4) -> str:
    """For example `0.9480 ± 0.0061`; of one run its value."""
    deviation = over["deviation"]
    return f"{over['mean']:.{digits}f}" + (
        "" if deviation is None else f" ± {deviation:.{digits}f}"
    )


def known(found: Mapping[str, Any]) -> list[str]:
    """What is known of a split's rows elsewhere: in the pretraining text, in the training rows."""
    return [each for each in (found["contamination"], found["leaks"]) if each]
