"""Whole runs on an accelerator: the losses of the CPU, and the same bits after a stop.

On CPU some of the same tests show that they can be passed.
"""

import shutil
from pathlib import Path

import pytest

from tests.pretrain.runs import assert_same, finished, metrics, start, stop_after
from tests.ranks import Finished
from tests.runtime.devices import CUDA, on

pytestmark = pytest.mark.distributed
STEPS = 20
ON = [
    ("cpu", "zero0"),
    *(pytest.param("cuda", name, marks=CUDA) for name in ("zero0", "zero1", "zero3")),
]
SETTINGS = [f"train.total_tokens={STEPS * 16 * 64}", "model.dropout=0.0", "launch.ranks=1"]


def run(folder: Path, device: str, *overrides: str, **how: object) -> Finished:
    return finished(folder, 1, *SETTINGS, *overrides, environment=on(device), **how)


@pytest.mark.parametrize(("device", "ds_config"), ON)
def test_losses_in_bf16_are_those_in_fp32_on_cpu(
    device: str, ds_config: str, workplace: Path, tmp_path: Path
) -> None:
    """From the same weights, which ZeRO-3 would draw in another order."""
    other = tmp_path / "other"
    run(
        workplace,
        "cpu",
        'engine.precision="fp32"',
        'engine.ds_config="zero0"',
        "train.total_tokens=1024",
    )
    first = workplace / "first"
    shutil.move(workplace / "run/pretrain/export", first)
    shutil.rmtree(workplace / "run/pretrain")
    shutil.copytree(workplace, other)
    start_there = f'model={{checkpoint="{first}"}}'
    run(workplace, "cpu", start_there, 'engine.precision="fp32"', 'engine.ds_config="zero0"')
    run(other, device, start_there, 'engine.precision="bf16"', f'engine.ds_config="{ds_config}"')
    exact, found = ([row["loss/train"] for row in metrics(f)[1:]] for f in (workplace, other))
    assert len(exact) == len(found) == STEPS
    assert exact[-1] < exact[0] - 0.2  # it learns
    assert found == pytest.approx(exact, rel=5e-3)


@pytest.mark.parametrize(("device", "ds_config"), ON)
def test_stopped_and_continued_is_bit_exact(
    device: str, ds_config: str, workplace: Path, tmp_path: Path
) -> None:
    straight = tmp_path / "straight"
    shutil.copytree(workplace, straight)
    how = [f'engine.ds_config="{ds_config}"', "engine.deterministic=true"]
    run(straight, device, *how)
    stopped = start(
        workplace, 1, *SETTINGS, *how, environment=on(device), when_running=stop_after(workplace, 6)
    )
    assert stopped.exit_codes != [0], stopped.text
    run(workplace, device, *how)
    assert_same(workplace, straight)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=CUDA)])
def test_a_compiled_encoder_has_the_same_losses(
    device: str, workplace: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(workplace, other)
    how = ["train.total_tokens=4096", 'engine.ds_config="zero0"', 'engine.precision="bf16"']
    run(workplace, device, *how)
    run(other, device, *how, "engine.compile=true")
    plain, compiled = ([row["loss/train"] for row in metrics(f)[1:]] for f in (workplace, other))
    assert compiled == pytest.approx(plain, rel=5e-3)
