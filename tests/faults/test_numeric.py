"""A loss or a gradient that is no number, on one rank alone: all ranks act alike.

What happens once is refused, recorded and passed over, and the run is the same bit for bit when it
is killed in between; what happens again and again ends every rank with code 4. (Spikes, and going
back over a stretch of data: tests/pretrain/test_guarded_run.py.)
"""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.pretrain.conftest import prepared
from tests.pretrain.runs import assert_same, metrics, metrics_reach, records, stage
from tests.ranks import Finished, Rank, run_ranks

__all__ = ["prepared"]  # a fixture
pytestmark = pytest.mark.distributed
WRONG = [str(Path(__file__).with_name("nan_on_one_rank.py"))]
GUARD = ("guard.window_steps=4", "guard.max_skips_in_a_row=3", "guard.max_rollbacks=1")


def run(folder: Path, what: str, steps: Sequence[int], **how: object) -> Finished:
    arguments = [*WRONG, what, json.dumps(list(steps)), "recipe.toml", *GUARD]
    return run_ranks(arguments, 2, folder, timeout_seconds=120, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_one_that_passes_is_skipped_on_all_ranks_and_the_run_goes_on(
    what: str, prepared: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        shutil.copytree(prepared, folder)
    done = run(whole, what, [5])
    assert done.exit_codes == [0, 0], done.text
    assert done.text.count("step 6 was not applied (loss ") == 1
    first, second = (records(whole, rank) for rank in range(2))
    assert [step["step"] for step in first if "refused" in step] == [6]
    for ours, theirs in zip(first, second, strict=True):
        for key in ("step", "data_step", "loss", "gradient_norm", "learning_rate"):
            assert ours[key] == theirs[key], (key, ours["step"])
        assert ours.get("refused") == theirs.get("refused")
    is_number = [math.isfinite(float.fromhex(step["loss"])) for step in first]
    assert is_number == [what == "gradient" or step != 5 for step in range(12)]
    logged = {line["step"]: line for line in metrics(whole)}
    assert logged[6]["health/skipped_steps_in_a_row"] == 1.0
    assert "health/skipped_steps_in_a_row" not in logged[7]
    assert math.isfinite(logged[12]["loss/valid"])

    def kill(ranks: Sequence[Rank]) -> None:
        metrics_reach(broken, 7)
        ranks[0].kill()

    assert run(broken, what, [5], when_running=kill).exit_codes != [0, 0]
    assert run(broken, what, [5]).exit_codes == [0, 0]
    assert_same(broken, whole)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_one_that_stays_ends_all_ranks_with_code_4(
    what: str, prepared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "workplace"
    shutil.copytree(prepared, folder)
    ended = run(folder, what, range(6, 40))
    assert ended.exit_codes == [4, 4], ended.text
    for text in ended.outputs:
        (cause,) = [line for line in text.splitlines() if line.startswith("textmill: ")]
        assert "3 updates in a row were refused up to step" in cause
        assert "it continues from step 4" in cause
        assert "Traceback" not in text
    assert not (stage(folder) / "export").exists()
    assert run(folder, what, []).exit_codes == [0, 0]  # the checkpoint it continues from is sound
    assert [step["step"] for step in records(folder)] == list(range(1, 13))
