"""Exports, probes and the average of a real run: two ranks under ZeRO-3, killed and continued."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.finetune.conftest import review_lines
from tests.ranks import Finished, run_ranks

pytestmark = pytest.mark.distributed
TABLES = """
[tasks.reviews]
kind = "classification"
train = "train.jsonl"
valid = "valid.jsonl"
epochs = 1
batch_size = 8
micro_batch_size = 8
"""
RUN = [
    "-m", "pretrain", "recipe.toml", "train.export_at=[0.3, 0.66]", "train.average_last=3",
    'train.probes=[{task = "reviews", every_share = 0.6}]',
]  # fmt: skip


def start(folder: Path, *more: str) -> Finished:
    return run_ranks([*RUN, *more], 2, folder)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 steps, checkpoints and exports at 4 and 8, a probe at 8."""
    folder = tmp_path_factory.mktemp("exports") / "workplace"
    shutil.copytree(prepared, folder)
    with (folder / "recipe.toml").open("a") as recipe:
        recipe.write(TABLES)
    (folder / "train.jsonl").write_text(review_lines(32, 1))
    (folder / "valid.jsonl").write_text(review_lines(16, 2))
    done = start(folder)
    assert done.exit_codes == [0, 0], done.text
    return folder / "run/pretrain"


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_shares_and_probes_are_logged_and_written(run: Path) -> None:
    assert sorted(p.name for p in (run / "exports").iterdir()) == ["step-00000004", "step-00000008"]
    found = {line["step"]: line for line in lines(run)}
    assert [step for step, line in found.items() if "probe/reviews" in line] == [8]
    manifest = json.loads((run / "manifest.json").read_text())
    score = found[8]["probe/reviews"]
    assert manifest["position"]["state"]["probes"]["scores"] == {"reviews": [[8, score]]}
    assert found[13]["eval_average/loss_valid"] == manifest["average"]["metrics"]["loss/valid"]
    assert manifest["average"]["metrics_of_last"]["loss/valid"] == found[12]["loss/valid"]


def test_the_average_is_the_mean_of_the_exports_at_the_same_steps(run: Path) -> None:
    parts = [weights(run / f"exports/step-{step:08d}") for step in (4, 8)]
    parts.append(weights(run / "export"))
    for name, found in weights(run / "export-average").items():
        expected = sum(part[name].double() for part in parts) / 3
        torch.testing.assert_close(found, expected.float(), rtol=1e-6, atol=1e-8)


def test_a_run_killed_before_the_checkpoint_writes_the_same_again(
    run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "workplace"
    shutil.copytree(run.parent.parent, folder)
    again = folder / "run/pretrain"
    for step in (8, 12):
        shutil.rmtree(again / f"checkpoints/step-{step:08d}")
    (again / "manifest.json").unlink()
    shutil.rmtree(again / "export-average")
    (again / "exports/step-00000008/model.safetensors").write_text("torn")
    done = start(folder)
    assert done.exit_codes == [0, 0], done.text
    for name in ("exports/step-00000004", "exports/step-00000008", "export", "export-average"):
        ours, theirs = again / name / "model.safetensors", run / name / "model.safetensors"
        assert ours.read_bytes() == theirs.read_bytes(), name
    probes = [line["probe/reviews"] for line in lines(again) if "probe/reviews" in line]
    assert probes == [line["probe/reviews"] for line in lines(run) if "probe/reviews" in line]
    assert len(probes) == 1


def test_another_recipe_is_refused_with_the_difference_and_accepted_on_request(
    run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "workplace"
    shutil.copytree(run.parent.parent, folder)
    (folder / "run/pretrain/manifest.json").unlink()
    change = ["optimizer.weight_decay=0.5", "train.average_last=1", "train.probes=[]"]
    refused = start(folder, *change)
    assert refused.exit_codes == [3, 3], refused.text
    assert "optimizer.weight_decay: 0.01 -> 0.5\n" in refused.text
    accepted = start(folder, *change, "--accept-drift")
    assert accepted.exit_codes == [0, 0], accepted.text
    manifest = json.loads((folder / "run/pretrain/manifest.json").read_text())
    drift = manifest["position"]["drift"]
    assert [(e["step"], e["changes"]) for e in drift] == [
        (12, {"optimizer.weight_decay": [0.01, 0.5]})
    ]
    assert json.loads((folder / "run/pretrain/checkpoints/drift.json").read_text()) == drift
