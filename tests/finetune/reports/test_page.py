"""The page of a task shows what report.json says, stands alone, and takes no text for markup."""

import json
import re
from pathlib import Path
from typing import Any

from finetune.reports import page, tables
from runtime import provenance
from tests import browser
from tests.finetune import made_up

LONG = {"GENE": [{"text": "x" * 300, "gold": {"label": "<a>"}, "predicted": None}]}


def written(folder: Path, report: dict[str, Any], seeds: tuple[int, ...] = ()) -> str:
    for seed in seeds:
        run = folder / f"seed-{seed}"
        run.mkdir()
        rows = [{"step": step, "eval/f1": step / 20, "loss/train": "nan"} for step in (4, 8)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    provenance.write_json(folder / "report.json", report)
    return page.write(folder).read_text(encoding="utf-8")


def cells(text: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]


def test_scores_stand_beside_what_they_are_compared_with(tmp_path: Path) -> None:
    found = cells(written(tmp_path, made_up.entities()["report"]))
    assert found[0] == [
        "f1", "fine-tuned", "95 % interval", "mean of 2 seeds", "without pretraining", "majority",
        "lookup",
    ]  # fmt: skip
    assert found[2] == [
        "test", "0.4000", "0.0000-1.0000", "0.2000 ± 0.2828", "0.0000", "0.0000", "0.5000"
    ]  # fmt: skip
    assert ["macro average", "0.2500", "0.2500", "0.2500", "3"] in found
    assert ["seed 3, without pretraining", "0.0000", "16", "1m16s"] in found
    assert ["onnx", "model.onnx", "4.20e-06", "12.3"] in found
    assert ["default", "any prefix", "micro", "0.5000", "0.3333", "0.4000", "3"] in found


def test_all_of_it_is_there(tmp_path: Path) -> None:
    text = written(tmp_path, made_up.entities()["report"], seeds=(1, 3))
    for part in (
        "contamination unknown", "1 of 2 test rows in the training rows", "Token table",
        "micro avg without O", "Examples: type", "Precision and recall", "Confusion",
        "F1 on the validation rows", "Errors by type", "98,765 parameters",
    ):  # fmt: skip
        assert part.lower() in text.lower(), part
    assert "Training loss" not in text  # no finite value of it
    assert text.count("<svg") >= 5


def test_decoding_says_what_was_fitted(tmp_path: Path) -> None:
    report = made_up.entities()["report"]
    report["decoding"] = {
        "decode": "likely", "threshold": 0.3125, "transitions": {"start": [1.5, 2.5]},
        "calibration": {"f1_before": 0.5, "f1_after": 0.75},
    }  # fmt: skip
    found = cells(written(tmp_path, report))
    at = found.index(["decode", "threshold"])
    assert found[at + 1] == ["likely", "0.3125"]
    assert found[at + 2 : at + 4] == [["f1 before", "f1 after"], ["0.5000", "0.7500"]]
    assert not any("1.5000" in cell for row in found for cell in row)


def test_text_from_data_is_no_markup_and_nothing_is_fetched(tmp_path: Path) -> None:
    text = written(tmp_path, made_up.entities()["report"])
    assert "&lt;DRUG&gt;" in text
    assert "<DRUG>" not in text
    assert "aspirin helps &lt;b&gt;" in text or "<b> patients" not in text
    assert "<script" not in text
    assert not re.search(r'(?:src|href)="https?:', text)


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    text = written(tmp_path, made_up.classes()["report"])
    for absent in ("without pretraining", "mean of", "Exports", "Augmentation", "Token table"):
        assert absent not in text
    assert cells(text)[1] == ["valid", "0.7500", "0.2500-1.0000", "0.5000"]
    assert "Label table" in text
    assert "$5 | 5 *" in text


def test_a_task_of_several_names_the_others_and_its_transfer(tmp_path: Path) -> None:
    told = {
        "together_with": ["chemistry", "topics"],
        "transfer": {"test": {"words": "negative transfer: f1 falls by 0.1000 (p = 0.004)"}},
    }
    folder = tmp_path / "both" / "chemistry"
    folder.mkdir(parents=True)
    start = {"started": "2026-01-02", "host": "node-7", "command": ["finetune", "both.toml"],
             "git": None, "versions": {"torch": "2.13"}}  # fmt: skip
    provenance.write_json(folder.parent / "run.json", {"starts": [start]})
    (folder.parent / "recipe.toml").write_text("name = 'both'")
    report = made_up.entities()["report"] | told
    run = folder.parent / "seed-1"
    run.mkdir()
    name = report["task"]
    rows = [
        {"step": step, f"eval/{name}/f1": step / 20, f"loss_by_task/{name}": 1 / step}
        for step in (4, 8)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    text = written(folder, report)
    assert "F1 on the validation rows".lower() in text.lower()
    assert "Training loss" in text
    assert "Validation loss" not in text  # nobody wrote it
    assert "trained together with topics." in text
    assert "Test, beside the task trained alone: negative transfer: f1 falls by 0.1000" in text
    assert "started 2026-01-02 on node-7" in text
    assert "name = &#39;both&#39;" in text


def test_any_json_becomes_tables() -> None:
    found = tables.of(
        {"a": 1, "deep": {"x": {"p": 0.5, "q": None}, "y": {"p": 1234.0}}, "list": [{"k": [1, 2]}]}
    )
    assert [(each.title, each.head, each.rows) for each in found] == [
        ("", ["a"], [[1]]),
        ("deep", ["", "p", "q"], [["x", 0.5, None], ["y", 1234.0, None]]),
        ("list", ["k"], [["1, 2"]]),
    ]
    assert [tables.shown(each) for each in (1234, 0.5, 4.2e-7, None, True, 0.0, 2e7)] == [
        "1,234", "0.5000", "4.20e-07", "", "yes", "0.0000", "2.00e+07"
    ]  # fmt: skip
    assert tables.of(None) == tables.of({}) == []


def test_nothing_sticks_out_on_a_phone(tmp_path: Path) -> None:
    report = made_up.entities()["report"]
    report["test"]["analysis"]["examples"] |= LONG
    text = written(tmp_path, report, seeds=(1, 3)).replace("<details", "<details open")
    script = "document.title = document.documentElement.scrollWidth"
    found = re.search(r"<title>(\d+)</title>", browser.shown(text, tmp_path, script))
    assert found is not None
    assert int(found[1]) <= 500
