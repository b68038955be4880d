"""What is said of tasks together and alone: by hand on few rows."""

from typing import Any

import numpy as np
import pytest

from finetune.evaluation import Scored
from finetune.multitask import transfer
from finetune.multitask.controls import Alone
from finetune.multitask.prepare import Several
from finetune.prepare import Prepared
from finetune.reports.report import Trained, by_seed
from finetune.tasks.classification import Prediction


def said(task: Prepared, num_right: int, seed: int = 0) -> Trained:
    """A run that is right on the first rows of valid and wrong on the others."""
    other = {"neg": "pos", "pos": "neg"}
    labels = [row.label for row in task.data["valid"].rows]
    guesses = [label if i < num_right else other[label] for i, label in enumerate(labels)]
    probabilities = [
        np.array([0.9, 0.1] if guess == "neg" else [0.1, 0.9], dtype=np.float32)
        for guess in guesses
    ]
    found = [Prediction(*pair) for pair in zip(guesses, probabilities, strict=True)]
    scores = task.plugin.score(task.data["valid"], found, task.labels)
    training = {"seed": seed, "best_step": 4, "seconds": 1.0}
    return Trained(training, {"valid": Scored(scores, 0.5, found)}, {})


def alone(task: Prepared, *runs: Trained) -> Alone:
    predictions = {"valid": runs[0].results["valid"].predictions}
    return Alone(f"run/finetune/{task.name}", by_seed(runs), predictions)


@pytest.fixture
def reviews(several: Several) -> Prepared:
    task = several.tasks[1]
    assert len(task.data["valid"].rows) == 18
    return task


@pytest.mark.parametrize(
    ("together", "by_itself", "words"),
    [
        (9, 18, "negative transfer: accuracy falls by 0.5000"),
        (18, 9, "positive transfer: accuracy rises by 0.5000"),
        (17, 18, "no clear difference: accuracy -0.0556"),
        (12, 12, "no clear difference: accuracy +0.0000"),
    ],
)
def test_a_verdict(reviews: Prepared, together: int, by_itself: int, words: str) -> None:
    found = transfer.of(
        reviews, [said(reviews, together)], alone(reviews, said(reviews, by_itself))
    )
    assert found["control"] == "run/finetune/reviews"
    valid = found["valid"]
    assert valid["words"].startswith(words)
    assert valid["difference"] == pytest.approx((together - by_itself) / 18)
    assert valid["low"] <= valid["difference"] <= valid["high"]
    assert valid["together"] == {
        "mean": pytest.approx(together / 18), "deviation": None, "count": 1
    }  # fmt: skip
    assert (valid["p_loss"] <= 0.05) == words.startswith("negative")
    assert (valid["p_gain"] <= 0.05) == words.startswith("positive")


def test_means_are_over_the_seeds_and_the_test_is_of_the_exported(reviews: Prepared) -> None:
    """Accuracies 18/18 and 14/18: mean 16/18."""
    runs = [said(reviews, 18, 1), said(reviews, 14, 0)]
    controls = alone(reviews, said(reviews, 16, 0), said(reviews, 14, 1))
    valid = transfer.of(reviews, runs, controls)["valid"]
    assert valid["together"]["mean"] == pytest.approx(16 / 18)
    assert valid["together"]["count"] == 2
    assert valid["alone"]["mean"] == pytest.approx(15 / 18)
    assert valid["difference"] == pytest.approx(2 / 18)


def test_the_table(reviews: Prepared) -> None:
    found = {"reviews": transfer.of(reviews, [said(reviews, 9)], alone(reviews, said(reviews, 18)))}
    head, row = transfer.table(found)
    assert head[:6] == ("task", "split", "metric", "together", "alone", "difference")
    assert row[:6] == ("reviews", "valid", "accuracy", "0.5000", "1.0000", "-0.5000")
    shown = transfer.markdown(found).splitlines()
    assert shown[0].startswith("| task | split | metric | together | alone |")
    assert shown[2].startswith("| reviews | valid | accuracy | 0.5000 | 1.0000 | -0.5000 |")
    assert shown[4].startswith("- reviews, valid: negative transfer: accuracy falls by 0.5000 (p =")
    assert transfer.lines(found)[0].split() == " ".join(head).split()


def test_a_task_kind_whose_rows_cannot_be_resampled_is_compared_by_its_means() -> None:
    compared: dict[str, Any] = {"together": {"mean": 0.5}, "alone": {"mean": 0.75}}
    assert transfer.words("f1", compared) == "f1 -0.2500, not tested"
