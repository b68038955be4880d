"""Whole runs of several tasks on one encoder: real DeepSpeed, two ranks, files to exports."""

import json
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune import predict
from tests.finetune.conftest import write_encoder
from tests.finetune.multitask.conftest import write_tasks
from tests.ranks import Finished, Rank, run_ranks, wait_for

pytestmark = pytest.mark.distributed
COMMAND = ["-m", "finetune", "train", "recipe.toml"]
REST = """
[tasks.people]
kind = "ner"
alone = false
train = "train.conll"
valid = "valid.conll"
test = "test.conll"
[tasks.reviews]
kind = "classification"
metric = "accuracy"
alone = false
train = "train.jsonl"
valid = "valid.jsonl"
test = "test.jsonl"
"""
HEAD = """
name = "tiny"
output = "run"
[engine]
precision = "fp32"
[track]
interval_steps = 1
"""
TOPICS = """
[tasks.topic]
kind = "classification"
metric = "accuracy"
label_field = "topic"
train = "train.jsonl"
valid = "valid.jsonl"
encoder = "encoder"
epochs = 1
batch_size = 8
micro_batch_size = 4
learning_rate = 2e-3
[tasks.sentiment]
kind = "classification"
metric = "accuracy"
label_field = "sentiment"
alone = false
train = "train.jsonl"
valid = "valid.jsonl"
[multitask.both]
encoder = "encoder"
weights = { sentiment = 1.0, topic = 1.0 }
steps = "alternate"
weighting = "uncertainty"
epochs = 1
batch_size = 8
micro_batch_size = 4
learning_rate = 2e-3
"""


def finished(folder: Path, *overrides: str, **how: Any) -> Finished:
    done = run_ranks([*COMMAND, *overrides], 2, folder, **how)
    assert done.exit_codes == [0, 0], done.text
    return done


def report_of(folder: Path, *parts: str) -> dict[str, Any]:
    return dict(
        json.loads((folder.joinpath("run/finetune/both", *parts) / "report.json").read_text())
    )


def topic_lines(count: int, seed: int) -> str:
    """Texts whose topic is a place or a thing, and whose mood is said by another word."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        topic, mood = rng.choice(["travel", "film"]), rng.choice(["pos", "neg"])
        noun = rng.choice({"travel": ["oslo", "paris"], "film": ["film", "play"]}[topic])
        word = rng.choice({"pos": ["good", "lovely"], "neg": ["bad", "awful"]}[mood])
        text = f"{noun} {word} {noun} {word}" + " today" * rng.randrange(3)
        rows.append(json.dumps({"text": text, "topic": topic, "sentiment": mood}))
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """Topic and sentiment in alternate steps under ZeRO-1, and the topic alone."""
    folder = tmp_path_factory.mktemp("topics")
    (folder / "encoder").symlink_to(encoder)
    (folder / "train.jsonl").write_text(topic_lines(1600, 1))
    (folder / "valid.jsonl").write_text(topic_lines(16, 2))
    (folder / "recipe.toml").write_text(HEAD + TOPICS)
    done = finished(folder, 'engine.ds_config="zero1"')
    assert "both: tasks together and alone" in done.outputs[0]
    return folder


def test_topic_and_sentiment_are_learnt_together(topics: Path) -> None:
    for task in ("topic", "sentiment"):
        report = report_of(topics, task)
        assert report["valid"]["metrics"]["accuracy"] > 0.9
        assert report["together_with"] == ["sentiment", "topic"]
        assert report["training"]["passes"] == 1.0
    log = [json.loads(line) for line in (topics / "run/finetune/both/seed-0/metrics.jsonl").open()]
    last = log[-1]
    assert last["step"] == 2 * 200
    assert last["eval/topic/accuracy"] > 0.9
    assert last["eval/sentiment/accuracy"] > 0.9
    assert {"weight/topic", "weight/sentiment", "valid_loss_by_task/topic"} <= set(last)
    weights = [record["weight/topic"] for record in log if "weight/topic" in record]
    assert weights[0] == 1.0
    assert weights[-1] > min(weights) + 0.1  # its loss fell, and then its log-variance


def test_the_exports_are_models_like_any_other(topics: Path) -> None:
    text = "film awful film awful today"
    for task, label in (("topic", "film"), ("sentiment", "neg")):
        folder = topics / "run/finetune/both" / task / "export"
        answer = predict.load(folder)([text])[0]
        assert answer["label"] == label
        scores = predict.evaluate(folder, topics / "valid.jsonl", "torch")
        reported = report_of(topics, task)["valid"]["metrics"]["accuracy"]
        assert scores["metrics"]["accuracy"] == pytest.approx(reported)
        assert (folder.parent / "report.html").is_file()
        assert len((folder.parent / "predictions.valid.jsonl").read_text().splitlines()) == 16


def test_every_task_stands_beside_its_control(topics: Path) -> None:
    """The recipe trains the topic alone with the same settings: that is its control."""
    transfer = report_of(topics)["transfer"]
    assert transfer["topic"]["control"] == "run/finetune/topic"
    assert transfer["sentiment"]["control"] == "run/finetune/both/sentiment/alone"
    assert not (topics / "run/finetune/both/topic/alone").exists()
    alone = json.loads((topics / "run/finetune/topic/report.json").read_text())
    for task in ("topic", "sentiment"):
        compared = transfer[task]["valid"]
        assert (
            compared["together"]["mean"] == report_of(topics, task)["valid"]["metrics"]["accuracy"]
        )
        assert 0 < compared["p_gain"] <= 1
        assert compared["difference"] == pytest.approx(
            compared["together"]["mean"] - compared["alone"]["mean"]
        )
    assert transfer["topic"]["valid"]["alone"]["mean"] == alone["valid"]["metrics"]["accuracy"]
    page = (topics / "run/finetune/both/report.md").read_text()
    assert "| topic | valid | accuracy |" in page
    assert transfer["topic"]["valid"]["words"] in page


def test_a_finished_model_is_not_trained_again(topics: Path) -> None:
    manifest = topics / "run/finetune/both/manifest.json"
    before = manifest.read_bytes()
    again = finished(topics, 'engine.ds_config="zero1"')
    assert manifest.read_bytes() == before
    assert "step" not in again.outputs[0]


def test_ranks_with_other_rows_are_told_so_before_the_first_step(
    tmp_path: Path, topics: Path
) -> None:
    """DeepSpeed would die or hang at step 0."""
    for name in ("encoder", "valid.jsonl", "recipe.toml"):
        (tmp_path / name).symlink_to(topics / name)
    for rank in (0, 1):
        (tmp_path / f"train-{rank}.jsonl").write_text(topic_lines(1600 - 60 * rank, 1))
    files = [f'tasks.{task}.train="train-${{RANK}}.jsonl"' for task in ("topic", "sentiment")]
    overrides = (*files, "tasks.topic.alone=false", 'engine.ds_config="zero3"')
    done = run_ranks([*COMMAND, *overrides], 2, tmp_path, timeout_seconds=120)
    assert done.exit_codes == [3, 3], done.text
    for output in done.outputs:
        assert "ranks would train different tasks in step 1 (rank 0: 400 steps in all" in output
        assert "give all nodes the same files" in output


BOTH = """
[multitask.both]
encoder = "encoder"
weights = { people = 1.0, reviews = 0.5 }
epochs = 3
batch_size = 16
micro_batch_size = 4
learning_rate = 1e-2
controls = false
"""
LAYOUTS = {
    "zero1-dwa": ('engine.ds_config="zero1"', 'multitask.both.weighting="dwa"',
                  "multitask.both.dwa_period_steps=2"),
    "zero3-famo": ('engine.ds_config="zero3"', 'multitask.both.weighting="famo"'),
}  # fmt: skip


def workplace(folder: Path, encoder: Path) -> Path:
    write_tasks(folder, encoder, train=24)
    (folder / "recipe.toml").write_text(HEAD + REST + BOTH)
    return folder


def stop_after_step_4(folder: Path) -> Any:
    metrics = folder / "run/finetune/both/seed-0/metrics.jsonl"

    def stop(ranks: Sequence[Rank]) -> None:
        wait_for(lambda: metrics.is_file() and '{"step": 4,' in metrics.read_text(), "step 4")
        ranks[1].send_signal(signal.SIGTERM)

    return stop


def traces(folder: Path) -> dict[str, Any]:
    """Of every rank the exact ledger; of the run its curves without what depends on the clock."""
    run = folder / "run/finetune/both/seed-0"
    found: dict[str, Any] = {
        path.name: path.read_text() for path in sorted((run / "ledger").iterdir())
    }
    records = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    timed = ("time", "perf/", "mem/")
    found["metrics"] = [
        {tag: value for tag, value in record.items() if not tag.startswith(timed)}
        for record in records
    ]
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ner_and_classification_stopped_and_continued_are_bit_exact(
    tmp_path: Path, encoder: Path, layout: str
) -> None:
    overrides = LAYOUTS[layout]
    straight, broken = (tmp_path / name for name in ("straight", "broken"))
    for folder in (straight, broken):
        folder.mkdir()
        workplace(folder, encoder)
    finished(straight, *overrides)
    stopped = run_ranks([*COMMAND, *overrides], 2, broken, when_running=stop_after_step_4(broken))
    assert stopped.exit_codes == [75, 75], stopped.text
    assert not (broken / "run/finetune/both/manifest.json").exists()
    finished(broken, *overrides)
    wanted, found = traces(straight), traces(broken)
    assert found == wanted
    weights = [each["weight/people"] for each in wanted["metrics"] if "weight/people" in each]
    assert len(set(weights)) > 1  # they did change
    for task in ("people", "reviews"):
        assert report_of(broken, task)["valid"] == report_of(straight, task)["valid"]
    for task, text in (("people", "ada met bob"), ("reviews", "the film was lovely")):
        both = [
            predict.load(folder / "run/finetune/both" / task / "export")([text])
            for folder in (straight, broken)
        ]
        assert both[0] == both[1]
    assert report_of(straight, "people")["test"]["metrics"]["f1"] > 0.9


def test_stages_and_ranks_compute_the_same_updates(tmp_path: Path, still_encoder: Path) -> None:
    """Heads that a micro batch, or a whole step, leaves out are where DeepSpeed's stages differ."""
    found = {}
    layouts = {"joint": ((0, 1), (1, 2), (2, 2), (3, 2)), "alternate": ((0, 1), (1, 2), (3, 2))}
    for steps, some in layouts.items():
        for stage, world in some:
            folder = tmp_path / f"{steps}-{stage}-{world}"
            folder.mkdir()
            workplace(folder, still_encoder)
            overrides = (
                f'engine.ds_config="zero{stage}"', f'multitask.both.steps="{steps}"',
                "multitask.both.epochs=2", "multitask.both.learning_rate=2e-3",
            )  # fmt: skip
            done = run_ranks([*COMMAND, *overrides], world, folder)
            assert set(done.exit_codes) == {0}, done.text
            run = folder / "run/finetune/both/seed-0"
            lines = [json.loads(line) for line in (run / "ledger/rank-00000.jsonl").open()]
            found[steps, stage, world] = [
                float.fromhex(line[key]) for line in lines for key in ("loss", "gradient_norm")
            ]
        wanted = found[steps, 0, 1]
        for key, values in found.items():
            if key[0] == steps:
                assert values == pytest.approx(wanted, rel=1e-3), key


def test_trained_weights_and_a_crf_run_in_bf16_under_zero3(tmp_path: Path, encoder: Path) -> None:
    """Their parameters are not transformers', which makes its own in bf16 and in shards."""
    folder = workplace(tmp_path, encoder)
    overrides = (
        'engine.ds_config="zero3"', 'engine.precision="bf16"', "tasks.people.crf=true",
        'multitask.both.weighting="uncertainty"', 'multitask.both.steps="alternate"',
    )  # fmt: skip
    finished(folder, *overrides)
    report = report_of(folder, "people")
    assert report["test"]["metrics"]["f1"] > 0.5
    between = report["decoding"]["transitions"]["between"]
    assert any(0 < abs(value) < 100 for row in between for value in row)  # trained
    log = (folder / "run/finetune/both/seed-0/metrics.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["weight/people"] not in (1.0, json.loads(log[1])["weight/people"])
    assert predict.load(folder / "run/finetune/both/people/export")(["ada met bob"])[0]["entities"]


def test_a_changed_table_is_no_continuation(tmp_path: Path, encoder: Path) -> None:
    folder = workplace(tmp_path, encoder)
    stopped = run_ranks(COMMAND, 2, folder, when_running=stop_after_step_4(folder))
    assert stopped.exit_codes == [75, 75], stopped.text
    refused = run_ranks([*COMMAND, "multitask.both.weights.reviews=0.9"], 2, folder)
    assert set(refused.exit_codes) == {2} or set(refused.exit_codes) == {3}, refused.text
    assert "multitask.weights.reviews" in refused.text
