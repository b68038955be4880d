"""What the report says of the pretraining run: learning by domain, mixture, speed, time, faults.

From metrics.jsonl (curves) and throughput.json (exact sums up to the newest checkpoint) of the
stage. Nothing is shown that was not measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch import charts, results
from launch.results import Metrics

# Parts of the time in the order they are drawn: what trains first.
PARTS = {
    "forward": ("forward", "#2f6fde"),
    "backward": ("backward", "#7aa5ee"),
    "optimizer": ("optimizer", "#2a9d8f"),
    "communication": ("communication", "#7353ba"),
    "data_wait": ("waiting for data", "#d1495b"),
    "evaluation": ("evaluation", "#e09f3e"),
    "hooks": ("exports and probes", "#f2cd8f"),
    "checkpoint": ("checkpoints", "#8a5a44"),
    "other": ("other", "#c3c9d3"),
}
GIB = 1 << 30
MAX_STEPS_NAMED = 12  # of refused updates


@dataclass(frozen=True)
class Chart:
    """A picture and what it shows."""

    title: str
    svg: str


@dataclass(frozen=True)
class Part:
    """Where a share of the time went."""

    name: str
    colour: str
    share: float
    seconds: float


@dataclass(frozen=True)
class Speed:
    """Sums over all starts of the run, as far as their checkpoints reach."""

    tokens_per_second: float  # without evaluation, exports, probes and checkpoints
    ranks: str  # of the starts
    mfu: float | None
    peak: str  # in words; empty without a peak
    packing_efficiency: float | None  # real tokens over all tokens
    parts: list[Part]
    seconds: float
    starts: int
    checkpoints: int
    checkpoint_seconds: float  # of one
    checkpoint_gib: float  # of one


def content(folder: Path) -> dict[str, Any]:
    """Everything the template shows of pretraining."""
    rows = results.metrics(folder)
    return {
        "loss": ends(rows, "loss/valid"),
        "bits": ends(rows, "eval/bits_per_byte"),
        "domains": domain_table(rows),
        "charts": of_learning(rows),
        "optimization": of_optimization(rows),
        "speed": speed(results.starts(folder)),
        "refused": refused_steps(rows),
        "max_refused": MAX_STEPS_NAMED,
    }


def ends(rows: list[Metrics], tag: str) -> tuple[float, float] | None:
    """The first and the last value of a tag."""
    values = results.curve(rows, tag).values
    return (values[0], values[-1]) if len(values) > 1 else None


def domain_table(rows: list[Metrics]) -> list[dict[str, Any]]:
    """First and last validation loss, accuracy and bits per byte of every domain."""
    table = []
    for tag in results.tags(rows, "loss_by_domain"):
        domain = tag.partition("/")[2]
        table.append(
            {
                "domain": domain,
                "loss": ends(rows, tag),
                "accuracy": results.last(rows, f"accuracy_by_domain/{domain}"),
                "bits": ends(rows, f"bits_per_byte_by_domain/{domain}"),
            }
        )
    return table


def of_learning(rows: list[Metrics]) -> list[Chart]:
    """The curves of what was learned, and what it was learned from."""
    wanted = (
        ("Loss", {"training": "loss/train", "validation": "loss/valid"}, "nats a target"),
        ("Masked bits per byte", {"all text": "eval/bits_per_byte"}, "bits"),
        ("Validation loss by domain", group(rows, "loss_by_domain"), "nats a target"),
        ("Bits per byte by domain", group(rows, "bits_per_byte_by_domain"), "bits"),
        ("Accuracy by domain", group(rows, "accuracy_by_domain"), "share of masked tokens"),
        ("Learning speed by domain", group(rows, "learning_speed"), ""),
        ("Probes", group(rows, "probe"), ""),
    )
    found = [drawn(title, rows, tags, unit) for title, tags, unit in wanted]
    shares = {name: results.curve(rows, tag) for name, tag in group(rows, "mixture").items()}
    if svg := charts.layers(shares, "share of training samples"):
        found.append(Chart("Mixture", svg))
    return [chart for chart in found if chart]


def of_optimization(rows: list[Metrics]) -> list[Chart]:
    """The curves of how the steps were made, and how fast."""
    wanted = (
        ("Learning rate", {"learning rate": "optim/learning_rate"}, ""),
        ("Gradient norm", {"norm": "optim/gradient_norm"}, ""),
        ("Throughput", {"tokens": "perf/tokens_per_second"}, "tokens a second"),
        ("Model FLOPs utilization", {"MFU": "perf/mfu"}, "share of peak"),
    )
    found = [drawn(title, rows, tags, unit, starts_at_zero=True) for title, tags, unit in wanted]
    return [chart for chart in found if chart]


def group(rows: list[Metrics], name: str) -> dict[str, str]:
    """The tags of a group by what follows its name."""
    return {tag.partition("/")[2]: tag for tag in results.tags(rows, name)}


def drawn(
    title: str,
    rows: list[Metrics],
    tags: Mapping[str, str],
    unit: str,
    *,
    starts_at_zero: bool = False,
) -> Chart | None:
    """A chart of the tags; None if none has two points."""
    curves = {label: results.curve(rows, tag) for label, tag in tags.items()}
    svg = charts.lines(curves, unit, starts_at_zero=starts_at_zero)
    return Chart(title, svg) if svg else None


def speed(starts: list[Mapping[str, Any]]) -> Speed | None:
    """The sums of all starts; None if no checkpoint was ever written."""
    seconds = sum(start["seconds"] for start in starts)
    if not seconds:
        return None
    parts = {name: sum(start["parts"].get(name, 0.0) for start in starts) for name in PARTS}
    tokens, slots = (sum(start[key] for start in starts) for key in ("tokens", "slots"))
    count = sum(start["checkpoints"] for start in starts)
    return Speed(
        tokens_per_second=tokens / max(sum(map(training_seconds, starts)), 1e-9),
        ranks=" and ".join(dict.fromkeys(str(start["ranks"]) for start in starts)),
        mfu=utilization(starts),
        peak=peak_in_words(starts[-1]),
        packing_efficiency=tokens / slots if slots else None,
        parts=[
            Part(label, colour, parts[name] / seconds, parts[name])
            for name, (label, colour) in PARTS.items()
            if parts[name] > 0
        ],
        seconds=seconds,
        starts=len(starts),
        checkpoints=count,
        checkpoint_seconds=parts["checkpoint"] / max(count, 1),
        checkpoint_gib=sum(start["checkpoint_bytes"] for start in starts) / max(count, 1) / GIB,
    )


def training_seconds(start: Mapping[str, Any]) -> float:
    """The time of a start without evaluation, exports, probes and checkpoints."""
    apart = ("evaluation", "hooks", "checkpoint")
    return float(start["seconds"] - sum(start["parts"].get(part, 0.0) for part in apart))


def utilization(starts: list[Mapping[str, Any]]) -> float | None:
    """The operations the model needed over those its devices could have done while training."""
    known = [start for start in starts if start["peak"] and start["flops"]]
    possible = sum(training_seconds(start) * start["peak"]["flops"] for start in known)
    return sum(start["flops"] for start in known) / possible if possible else None


def peak_in_words(start: Mapping[str, Any]) -> str:
    """For example: 0.17 TFLOP/s, measured by matrix products at the start."""
    if not start["peak"]:
        return ""
    how = (
        "measured by matrix products at the start"
        if start["peak"]["is_measured"]
        else "given in the recipe"
    )
    return f"{start['peak']['flops'] / 1e12:,.2f} TFLOP/s of all devices, {how}"


def refused_steps(rows: list[Metrics]) -> list[int]:
    """The steps whose update the guard refused."""
    return [int(row["step"]) for row in rows if "health/skipped_steps_in_a_row" in row]
