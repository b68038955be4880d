"""The model card as a hub reads it, and its examples as a person runs them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from finetune import predict
from finetune.reports import model_card
from finetune.reports.tables import Table
from runtime import provenance
from tests.finetune import made_up, models


def front(text: str) -> Any:
    _, metadata, _ = text.split("---\n", 2)
    return yaml.safe_load(metadata)


def test_metadata_as_a_hub_reads_it(tmp_path: Path) -> None:
    found = front(model_card.of(made_up.entities()["report"]))
    results = found.pop("model-index")[0]["results"]
    assert found == {
        "base_model": "org/encoder",
        "library_name": "transformers",
        "metrics": ["precision", "recall", "f1", "accuracy"],
        "pipeline_tag": "token-classification",
        "tags": ["textmill", "ner"],
    }
    test = results[0]
    assert test["dataset"] == {"name": "chemistry", "type": "chemistry", "split": "test"}
    assert {"type": "f1", "value": 0.4, "name": "f1"} in test["metrics"]
    assert [each["dataset"]["split"] for each in results] == ["test", "valid"]
    (tmp_path / "export").mkdir()
    provenance.write_json(tmp_path / "report.json", made_up.entities()["report"])
    card = ModelCard.load(model_card.write(tmp_path))
    assert card.data.eval_results is not None
    assert card.data.eval_results[0].metric_name == "precision"


def test_a_folder_is_no_base_model_and_a_hub_data_set_is_named() -> None:
    report = made_up.classes()["report"]
    report["encoder"] |= {"hub_id": None, "name": "runs/x/pretrain/export"}
    report["table"]["valid"] = {"dataset": "org/reviews", "split": "validation"}
    text = model_card.of(report)
    found = front(text)
    assert "base_model" not in found
    assert "license" not in found
    assert found["pipeline_tag"] == "text-classification"
    assert found["model-index"][0]["results"][0]["dataset"]["type"] == "org/reviews"
    assert "from the encoder `runs/x/pretrain/export`" in text
    assert "matthews_correlation" in found["metrics"]


def test_plain_words() -> None:
    text = model_card.of(made_up.entities()["report"])
    assert "| test | 0.4000 | 0.0000-1.0000 | 0.2000 ± 0.2828 | 0.0000 | 0.0000 | 0.5000 |" in text
    assert "- test: contamination unknown; 1 of 2 test rows in the training rows." in text
    assert "- 0 of 1 training rows repeat another" in text
    assert "`O`, `B-<DRUG>`, `I-<DRUG>`, `B-GENE`, `I-GENE`." in text
    assert "| tokens | 9 | 9 | 18 |" in text
    assert "Whether the encoder has seen the evaluation rows" in text
    assert "| learning rate | 0.0001 |" in text
    assert re.search(r"Versions: python 3\.\d+\.\d+, textmill", text)
    single = model_card.of(made_up.classes()["report"])
    assert "best of" not in single
    assert "without pretraining" not in single
    assert "finds named entities" not in single


def test_many_labels_are_cut() -> None:
    report = made_up.classes()["report"]
    report["labels"] = [f"label{i}" for i in range(70)]
    assert "`label59` and 10 more (`id2label` in config.json)." in model_card.of(report)


def test_a_cell_cannot_break_its_table() -> None:
    table = Table("", ["a|b", "c"], [["<i>\n*x*", 1234], [None, 0.5]])
    assert model_card.markdown(table).splitlines() == [
        r"| a\|b | c |",
        "| --- | --- |",
        r"| \<i\> \*x\* | 1,234 |",
        "|  | 0.5000 |",
    ]


def test_inputs_of_a_pair() -> None:
    report = made_up.classes()["report"]
    report["table"] |= {"text_field": "premise", "text_pair_field": "hypothesis"}
    text = model_card.of(report)
    assert 'answer([{"premise": "...", "hypothesis": "..."}])' in text
    assert "pipeline(" not in text
    report["table"] |= {"text_field": 0, "text_pair_field": 1}
    assert '{"text": "...", "text_pair": "..."}' in model_card.of(report)


@pytest.mark.parametrize("task", ["people", "reviews"])
def test_the_examples_run(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = models.train(models.write_tasks(tmp_path), task, steps=2)
    made = made_up.entities() if task == "people" else made_up.classes()
    blocks = re.findall(r"```python\n(.*?)```", model_card.of(made["report"]), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block.replace("FOLDER", str(folder)), "card", "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("[{'text'" if task == "people" else "[{'label'")
    assert predict.load(folder)(["..."])
