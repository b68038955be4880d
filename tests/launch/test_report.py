"""The report shows what was written, nothing else, and stands alone."""

import re
from pathlib import Path

import pytest

from launch import report, results
from runtime.errors import DataError
from tests.launch import runs


def page(output: Path) -> str:
    return report.write(output).read_text(encoding="utf-8")


def cells(text: str) -> list[str]:
    return re.findall(r"<td[^>]*>(.*?)</td>", text)


def test_results_stand_beside_what_they_are_compared_with(tmp_path: Path) -> None:
    text = page(runs.finished(tmp_path))
    found = cells(text)
    start = found.index("test")
    assert found[start : start + 4] == ["test", "0.7500", "0.5000", "0.1250"]
    start = found.index("valid")
    assert found[start : start + 4] == ["valid", "0.6250", "0.3750", "0.2500"]
    assert "6.25 → 3.75" in text
    assert "4.2e-06" in text
    assert "54,321" in text


def test_documents_are_accounted_for(tmp_path: Path) -> None:
    found = cells(page(runs.prepared(tmp_path)))
    start = found.index("wiki")
    assert found[start : start + 10] == [
        *("wiki", "encyclopedia", "100", "91", "500", "500", "8", "2", "24"),
        "7 duplicate, 2 not valid UTF-8",
    ]


def test_how_it_was_made(tmp_path: Path) -> None:
    text = page(runs.finished(tmp_path))
    assert "pretrain small.toml" in text
    assert "commit 0123456789ab with uncommitted changes" in text
    assert "num_layers = 2" in text
    assert "2.13.0" in text


def test_stands_alone(tmp_path: Path) -> None:
    text = page(runs.finished(tmp_path))
    assert "<script" not in text
    assert not re.search(r'(?:src|href)="https?:', text)
    assert text.count("<svg") >= 3


def test_text_from_data_is_no_markup(tmp_path: Path) -> None:
    text = page(runs.finished(tmp_path))
    assert "CITY &lt;&amp;&gt;" in text
    assert "CITY <&>" not in text


@pytest.mark.parametrize("make", [runs.started, runs.prepared, runs.pretrained, runs.finished])
def test_missing_parts_are_named_and_not_invented(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    text = page(make(tmp_path))
    waiting = re.search(r"Not finished yet: ([^.]*)\.", text)
    expected = {
        "started": "data_prep, pretrain, finetune",
        "prepared": "pretrain, finetune",
        "pretrained": "finetune",
        "finished": None,
    }[make.__name__]
    assert (waiting.group(1) if waiting else None) == expected
    assert ("validation loss" in text) == (make in (runs.pretrained, runs.finished))
    assert ("without pretraining" in text) == (make is runs.finished)


def test_a_line_being_written_is_left_out(tmp_path: Path) -> None:
    runs.metrics(tmp_path)
    with (tmp_path / "pretrain" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "loss/tr')
    assert [row["step"] for row in results.metrics(tmp_path / "pretrain")] == [0, 10, 20]


def test_values_that_are_not_finite_are_gaps(tmp_path: Path) -> None:
    rows = runs.metrics(tmp_path)
    assert results.curve(rows, "loss/train") == results.Curve([20], [3.5])
    assert results.curve(rows, "loss/valid") == results.Curve([0, 20], [6.25, 3.75])


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        report.write(tmp_path)
    (tmp_path / "recipe.toml").write_text("")
    with pytest.raises(DataError, match="is a file"):
        report.write(tmp_path / "recipe.toml")
