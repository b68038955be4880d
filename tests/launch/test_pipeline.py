"""`textmill run` with the real stages: what it runs, what it skips, and how it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from launch import stage_process
from tests.conftest import ROOT

RECIPE = """
name = "tiny"
output = "{folder}/run"

[launch]
ranks = 2
workers = 1

[sources.a]
reader = "jsonl"
domain = "weather"
path = "{folder}/a.jsonl"

[tokenizer]
vocab_size = 448

[packing]
sequence_length = 32
valid_share = 0.2

[model]
num_layers = 2
hidden_size = 32
num_heads = 2
intermediate_size = 48
local_window = 16

[train]
total_tokens = 2048
global_batch_size = 8
micro_batch_size = 4
evaluate_every_steps = 4

[engine]
precision = "fp32"

[track]
interval_steps = 2

[tasks.mood]
kind = "classification"
train = "{folder}/mood.jsonl"
valid = "{folder}/mood.jsonl"
epochs = 1
max_length = 16
"""
WORDS = ("rain", "sun", "wind", "snow", "cloud", "storm", "fog", "hail", "breeze", "frost")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    texts = [
        " ".join(
            f"the {WORDS[(i + j) % 10]} over {WORDS[(i * j + 3) % 10]} hills," for j in range(8)
        )
        for i in range(1, 200)
    ]
    rows = [{"text": f"{text} {number}"} for number, text in enumerate(texts)]
    labelled = [{"text": row["text"], "label": "ab"[i % 2]} for i, row in enumerate(rows[:16])]
    for name, found in (("a", rows), ("mood", labelled)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in found))
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return path


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "launch", *map(str, arguments)],
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def textmill(*arguments: str | Path) -> tuple[int, str]:
    process = start(*arguments)
    output, _ = process.communicate(timeout=400)
    return process.returncode, output


@pytest.mark.slow
@pytest.mark.distributed
def test_whole_chain_then_nothing_then_only_what_is_missing(recipe: Path) -> None:
    code, shown = textmill("run", recipe)
    assert code == 0, shown
    for line in ("data_prep: starting", "pretrain: starting, 2 ranks", "finetune: starting"):
        assert line in shown
    assert "tensorboard --logdir" in shown
    assert "[INFO]" not in shown
    assert "Warning" not in shown
    run = recipe.parent / "run"
    assert (run / "report.html").is_file()
    assert "mood" in textmill("status", run)[1]

    code, shown = textmill("run", recipe)
    assert code == 0, shown
    for stage in ("data_prep", "pretrain", "finetune"):
        assert f"{stage}: up to date" in shown
    assert "starting" not in shown

    shutil.rmtree(run / "finetune")
    code, shown = textmill("run", recipe)
    assert code == 0, shown
    assert "pretrain: up to date" in shown
    assert "finetune: starting" in shown

    code, shown = textmill("run", recipe, "tasks.mood.epochs=2")
    assert code == 3  # never over the checkpoints of another recipe
    assert "was made with another task" in shown


@pytest.mark.slow
@pytest.mark.distributed
def test_stop_returns_75_and_the_same_command_continues(recipe: Path) -> None:
    run = recipe.parent / "run"
    more = "train.total_tokens=102400"
    process = start("run", recipe, more)
    metrics = run / "pretrain" / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.is_file() and len(metrics.read_text().splitlines()) > 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 75, output
    assert "stops as soon as it has saved" in output
    stopped_at = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert list((run / "pretrain" / "checkpoints").glob("step-*"))
    assert "stopped" in textmill("status", run)[1]

    code, shown = textmill("run", recipe, more)
    assert code == 0, shown
    assert "data_prep: up to date" in shown
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert 0 < stopped_at < 400 == steps[-1]


@pytest.mark.slow
def test_code_of_the_failing_stage_is_returned(recipe: Path) -> None:
    with (recipe.parent / "a.jsonl").open("w") as file:
        file.write('{"words": "no text here"}\n')
    code, shown = textmill("run", recipe)
    assert code == 3
    assert shown.count("DataError") == 1
    assert "data_prep ended with exit code 3" in shown
    assert "failed" in textmill("status", recipe.parent / "run")[1]


def test_dry_run_touches_nothing(recipe: Path) -> None:
    before = sorted(recipe.parent.iterdir())
    code, shown = textmill("run", recipe, "--dry-run", "seed=3")
    assert code == 0, shown
    assert "data_prep: to do" in shown
    assert "pretrain: waits for data_prep" in shown
    assert sorted(recipe.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.total_tokens=5", "did you mean `train`"),
        ('launch.launcher="slurm"', "slurm/pipeline.sbatch"),
        ('launch.launcher="deepspeed"', "deepspeed --hostfile"),
    ],
)
def test_bad_recipe_is_refused_before_anything_is_written(
    recipe: Path, override: str, message: str
) -> None:
    code, shown = textmill("run", recipe, override)
    assert code == 2
    assert message in shown
    assert not (recipe.parent / "run").exists()


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from launch import __main__; __main__.arguments_parser().format_help();"
        "print(sorted({'torch', 'transformers', 'matplotlib', 'rich', 'numpy'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"


def test_unknown_option_is_refused() -> None:
    assert textmill("run", "recipe.toml", "--nonsense")[0] == 2
    assert textmill("status", "folder", "extra")[0] == 2


@pytest.mark.slow
@pytest.mark.distributed
def test_a_lost_rank_is_started_again_as_often_as_the_recipe_says(recipe: Path) -> None:
    run = recipe.parent / "run"
    metrics = run / "pretrain" / "metrics.jsonl"
    more = ("train.total_tokens=20480", "checkpoint.interval_steps=10", "launch.restarts=1")
    process = start("run", recipe, *more, "watchdog.min_seconds=10")
    for step in (12, 30):  # the second loss is one too many
        kill_a_rank(process.pid, partial(has_reached, metrics, step))
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 5, output
    assert output.count("starting again from its last checkpoint, restart 1 of 1") == 1
    assert json.loads((run / "launch.json").read_text())["stages"]["pretrain"]["restarts"] == 1

    code, shown = textmill("run", recipe, *more)
    assert code == 0, shown
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(0, 81, 2))


def has_reached(metrics: Path, step: int) -> bool:
    lines = metrics.read_text().splitlines() if metrics.is_file() else []
    return bool(lines) and int(json.loads(lines[-1])["step"]) >= step


def kill_a_rank(launcher: int, is_time: Callable[[], bool]) -> None:
    """SIGKILL the last rank below a launcher when it is time."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        family = psutil.Process(launcher).children(recursive=True)
        ranks = [p for p in family if stage_process.is_stage_command(line_of(p), "pretrain")]
        if len(ranks) == 2 and is_time():
            ranks[-1].kill()
            return
        time.sleep(0.05)
    raise AssertionError("no rank was there in time")


def line_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
