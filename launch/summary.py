"""The last lines of `textmill run`: what came out, and where to look at it."""

import shlex
from pathlib import Path

from launch import pretraining, report, results
from runtime import stages
from runtime.readable import duration


def print_summary(output: Path, wanted: list[str], seconds: float) -> None:
    """Write the report and say the results in a few aligned lines."""
    page = report.write(output)
    print()
    if "pretrain" in wanted:
        print_pretraining(output)
    for task in results.tasks(output):
        print_task(task)
    print(f"done in {duration(seconds)}; everything is in {output}")
    print(f"  report   {page}")
    print(f"  curves   tensorboard --logdir {shlex.quote(str(output))}")
    for task in results.tasks(output):
        model = stages.folder(output, "finetune") / task.name / "export"
        print(f"  {task.name:<8} {model}")


def print_pretraining(output: Path) -> None:
    rows = results.metrics(stages.folder(output, "pretrain"))
    parts = []
    for label, tag in (("validation loss", "loss/valid"), ("bits per byte", "eval/bits_per_byte")):
        found = results.curve(rows, tag)
        if len(found.values) > 1:
            parts.append(f"{label} {found.values[0]:.3f} -> {found.values[-1]:.3f}")
    if rows and parts:
        print(f"pretraining: {', '.join(parts)} in {rows[-1]['step']} steps")
    speed = pretraining.speed(results.starts(stages.folder(output, "pretrain")))
    if speed is not None:
        shares = ", ".join(f"{part.name} {part.share:.1%}" for part in speed.parts)
        utilization = "" if speed.mfu is None else f", MFU {speed.mfu:.1%}"
        print(f"  {speed.tokens_per_second:,.0f} tokens a second{utilization}; time: {shares}")


def print_task(task: results.Task) -> None:
    """One line a split: ours, the same model without pretraining, what needs no model."""
    for score in task.scores:
        line = f"{task.name}: {score.split:<5} {task.metric} {score.ours:.3f}"
        if score.control is not None:
            line += f", without pretraining {score.control:.3f}"
        for name, value in score.baselines.items():
            line += f", {name.replace('_', ' ')} {value:.3f}"
        print(line)
