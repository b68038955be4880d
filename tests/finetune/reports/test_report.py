"""report.json of tasks that were scored by hand, and the files made from it."""

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finetune.reports import findings, headline, report, summary
from tests.finetune import made_up


def test_the_headline_by_hand() -> None:
    found = made_up.entities()["report"]
    test = found["headline"]["test"]
    assert (test["metric"], test["value"]) == ("f1", 0.4)
    assert test["seeds"] == {"mean": 0.2, "deviation": pytest.approx(0.4 / 2**0.5), "count": 2}
    assert test["control"] == {"mean": 0.0, "deviation": None, "count": 1}
    assert test["interval"] == {"low": 0.0, "high": 1.0}
    assert test["baselines"] == {"majority": 0.0, "lookup": 0.5}
    assert test["contamination"] == "contamination unknown"
    assert test["leaks"] == "1 of 2 test rows in the training rows"
    assert found["seeds"]["seeds"] == [3, 1]
    assert found["seeds"]["test"]["f1"]["values"] == [0.4, 0.0]


def test_what_predictions_show_is_in_the_report() -> None:
    test = made_up.entities()["report"]["test"]
    assert test["confusion"] == {
        "gold": ["<DRUG>", "GENE", "(spurious)"],
        "predicted": ["<DRUG>", "GENE", "(missed)"],
        "counts": [[1, 0, 1], [1, 0, 0], [0, 0, 0]],
    }
    assert test["analysis"]["counts"]["type"] == 1
    assert set(test["final"]["seqeval"]) == {"strict", "default"}
    assert "without O" in test["final"]["token_table"]
    assert set(test["curves"]) == {"<DRUG>", "GENE"}


def test_a_plugin_may_leave_out_what_it_does_not_have() -> None:
    made = made_up.classes()
    whole = made["task"].plugin
    made["task"].plugin = SimpleNamespace(HEAD="sequence", score=whole.score)
    scored = made["runs"][0].results["valid"]
    found = findings.of(made["task"], "valid", scored)
    assert found["confusion"]["counts"] == [[1, 1], [0, 2]]
    assert {key: value for key, value in found.items() if key != "confusion"} == {
        "intervals": {}, "curves": {}, "analysis": {}, "final": {}
    }  # fmt: skip


def test_the_encoder_is_known_by_its_hub_id_unless_it_is_a_folder(tmp_path: Path) -> None:
    task = made_up.entities()["task"]
    assert report.encoder_of(task)["hub_id"] == "org/encoder"
    task.encoder.folder = tmp_path
    task.task = task.task.model_copy(update={"encoder": str(tmp_path)})
    assert report.encoder_of(task) | {"fingerprint": "", "tokenizer": ""} == {
        "name": str(tmp_path), "hub_id": None, "fingerprint": "", "tokenizer": ""
    }  # fmt: skip


@pytest.mark.parametrize("make", [made_up.entities, made_up.classes])
def test_everything_is_written(make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = make()
    (tmp_path / "export").mkdir()
    with caplog.at_level(logging.INFO, "textmill"):
        report.write(tmp_path, made["task"], made["report"], made["runs"])
    assert json.loads((tmp_path / "report.json").read_text())["task"] == made["task"].name
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert written >= {"report.json", "report.html", "export/README.md", "predictions.valid.jsonl"}
    assert f"more in {tmp_path}/report.html" in caplog.text
    shutil.rmtree(tmp_path / "export")
    report.write(tmp_path, made["task"], made["report"], made["runs"])
    assert not (tmp_path / "export").exists()


def test_predictions_stand_beside_what_is_right(tmp_path: Path) -> None:
    made = made_up.entities()
    report.write(tmp_path, made["task"], made["report"], made["runs"])
    lines = (tmp_path / "predictions.test.jsonl").read_text().splitlines()
    second = json.loads(lines[1])
    assert second["row"] == 1
    assert second["texts"] == ["the BRCA1 gene and warfarin"]
    assert [each["label"] for each in second["gold"]] == ["GENE", "<DRUG>"]
    assert second["predicted"] == {
        "entities": [
            {"start": 4, "end": 14, "label": "<DRUG>", "text": "BRCA1 gene", "confidence": 0.875}
        ]
    }


def test_the_closing_lines() -> None:
    found = summary.lines(made_up.entities()["report"], Path("page.html"))
    assert found[0] == "chemistry: best of 2 seeds on valid, seed 3, step 16"
    assert [line.split() for line in found[1:4]] == [
        ["valid", "test"],
        ["f1", "1.0000", "(1.0000-1.0000)", "0.4000", "(0.0000-1.0000)"],
        ["mean", "of", "2", "seeds", "0.5000", "±", "0.7071", "0.2000", "±", "0.2828"],
    ]
    assert found[-2:] == [
        "  test: (contamination unknown) (1 of 2 test rows in the training rows)",
        "  more in page.html",
    ]
    single = summary.lines(made_up.classes()["report"], Path("x"))
    assert single[0] == "reviews: seed 7, step 16"
    assert not any("seeds" in line or "without pretraining" in line for line in single)


def test_numbers_in_words() -> None:
    assert headline.interval_in_words({"low": 0.91234, "high": 1.0}) == "0.9123-1.0000"
    assert headline.interval_in_words(None) == ""
    assert headline.mean_in_words({"mean": 0.5, "deviation": None}) == "0.5000"
    assert headline.mean_in_words({"mean": 0.5, "deviation": 0.25}, digits=2) == "0.50 ± 0.25"
    assert headline.known({"contamination": "a", "leaks": None}) == ["a"]
