"""The report shows what was written, nothing else, and stands alone."""

import re
from pathlib import Path
from typing import Any

import pytest

from launch import charts, pretraining, report, results, summary
from launch.results import Curve
from runtime.errors import DataError
from tests import browser
from tests.launch import runs


def page(output: Path) -> str:
    return report.write(output).read_text(encoding="utf-8")


def cells(text: str) -> list[str]:
    return re.findall(r"<td[^>]*>(.*?)</td>", text)


def test_results_stand_beside_what_they_are_compared_with(tmp_path: Path) -> None:
    text = page(runs.finished(tmp_path))
    found = cells(text)
    start = found.index("test")
    assert found[start : start + 6] == [
        *("test", "0.7500", "0.6500-0.8500", "0.7000 ± 0.0500 of 2", "0.5000", "0.1250")
    ]
    start = found.index("valid")
    assert found[start : start + 3] == ["valid", "0.6250", "0.5250-0.7250"]
    assert "contamination unknown; 3 of 20 rows in the training rows" in text
    assert 'href="finetune/places/report.html"' in text
    assert "seed 1 without pretraining" in text
    assert "6.25 → 3.75" in text
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


def test_tasks_of_a_multi_task_model_are_shown_by_their_own_reports(tmp_path: Path) -> None:
    output = runs.finished(tmp_path)
    together = runs.RECIPE + "alone = false\n[multitask.both]\n"
    runs.write(output / "recipe.toml", together)
    (output / "finetune" / "places").rename(output / "finetune" / "moved")
    assert results.task_names(output) == ["both"]
    assert "Not finished yet: finetune." in page(output)
    (output / "finetune" / "both").mkdir()
    (output / "finetune" / "moved").rename(output / "finetune" / "both" / "places")
    model = {"multitask": "both", "training": {"places": {}, "topics": {}}}
    runs.write(output / "finetune" / "both" / "report.json", model)
    (found,) = results.tasks(output)
    assert (found.name, found.scores[-1].ours) == ("both/places", 0.75)
    text = page(output)
    assert "Not finished yet" not in text
    assert 'href="finetune/both/places/report.html"' in text


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


def start(first_step: int, peak: float | None, **changed: Any) -> dict[str, Any]:
    """An entry of throughput.json: 100 s, of which 80 trained at 50 tokens a second."""
    parts = {
        "forward": 20.0,
        "backward": 50.0,
        "other": 10.0,
        "evaluation": 15.0,
        "checkpoint": 5.0,
    }
    return {
        "first_step": first_step, "last_step": first_step + 9, "ranks": 2, "steps": 10,
        "peak": None if peak is None else {"flops": peak, "is_measured": True},
        "tokens": 4000, "slots": 5000, "flops": 4e13, "seconds": 100.0, "parts": parts,
        "checkpoints": 2, "checkpoint_bytes": 1 << 30,
    } | changed  # fmt: skip


def measured(output: Path) -> Path:
    """A pretrained run of two starts, whose mixture moved and one of whose updates was refused."""
    runs.write(
        runs.pretrained(output) / "pretrain" / "throughput.json",
        {"starts": [start(1, 1e12), start(11, 3e12, tokens=12_000, slots=15_000, ranks=4)]},
    )
    rows = runs.metrics(output)
    for row, law in zip(rows, (0.25, 0.5, 0.75), strict=True):
        row |= {"mixture/law": law, "mixture/wiki": 1 - law, "bits_per_byte_by_domain/x": 8 * law}
    rows[1]["health/skipped_steps_in_a_row"] = 1.0
    runs.lines(output / "pretrain" / "metrics.jsonl", rows)
    return output


def test_speed_by_hand(tmp_path: Path) -> None:
    found = pretraining.speed(results.starts(measured(tmp_path) / "pretrain"))
    assert found is not None
    assert found.tokens_per_second == 100.0  # 16,000 tokens in 2 x 80 s
    assert found.mfu == 8e13 / (80e12 + 240e12)
    assert found.packing_efficiency == 0.8
    assert found.ranks == "2 and 4"
    assert [(part.name, part.share) for part in found.parts] == [
        ("forward", 0.2),
        ("backward", 0.5),
        ("evaluation", 0.15),
        ("checkpoints", 0.05),
        ("other", 0.1),
    ]
    assert (found.checkpoints, found.checkpoint_seconds, found.checkpoint_gib) == (4, 2.5, 0.5)


def test_speed_mixture_and_refused_updates_are_on_the_page(tmp_path: Path) -> None:
    text = re.sub(r"\s+", " ", page(measured(tmp_path)))
    assert "3m20s in 2 starts on 2 and 4 ranks" in text
    assert "80.00 % of all tokens are text" in text
    assert (
        "MFU 25.0 % of 3.00 TFLOP/s of all devices, measured by matrix products at the start"
        in text
    )
    assert "4 checkpoints of 0.50 GiB, 2.50 s each." in text
    assert "1 update was refused by the guard, at step 10." in text
    for title in ("Mixture", "Bits per byte by domain"):
        assert f"<figcaption>{title}</figcaption>" in text


def test_the_summary_says_how_fast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary.print_summary(measured(tmp_path), ["pretrain"], 61.0)
    assert (
        "  100 tokens a second, MFU 25.0%; time: forward 20.0%, backward 50.0%, evaluation 15.0%, "
        "checkpoints 5.0%, other 10.0%\n" in capsys.readouterr().out
    )


def test_a_peak_that_was_given_is_called_so() -> None:
    given = start(1, None) | {"peak": {"flops": 9.9e14, "is_measured": False}}
    assert pretraining.peak_in_words(given) == (
        "990.00 TFLOP/s of all devices, given in the recipe"
    )
    found = pretraining.speed([start(1, None)])
    assert found is not None
    assert (found.mfu, found.peak) == (None, "")
    assert pretraining.speed([]) is None


def test_a_source_without_a_share_has_none() -> None:
    assert charts.at(Curve([10, 30], [0.25, 0.5]), [10, 20, 30]) == [0.25, 0.0, 0.5]
    assert charts.layers({"law": Curve([10], [1.0])}, "") is None


def test_browser_shows_the_page(tmp_path: Path) -> None:
    """Nothing sticks out on the screen of a phone: what is wide scrolls inside itself."""
    made = page(measured(runs.finished(tmp_path)))
    script = (
        "document.title = document.documentElement.scrollWidth + ' ' + "
        "document.querySelector('.bar').offsetWidth"
    )
    found = re.search(r"<title>(\d+) (\d+)</title>", browser.shown(made, tmp_path, script))
    assert found is not None
    assert int(found[1]) <= 500
    assert int(found[2]) > 300
