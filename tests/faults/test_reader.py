"""What cannot be read in the middle of training ends all ranks with one line and the exit code of
the rank that met it; the run goes on from its last checkpoint.

Batches are made in the process that trains: there is no worker process to lose.
"""

from pathlib import Path

import pytest

from tests.faults.oracle import Shape, same, uninterrupted
from tests.pretrain.conftest import prepared as prepared
from tests.pretrain.conftest import workplace as workplace
from tests.pretrain.runs import finished, records
from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed
FAILING = Path(__file__).with_name("failing_reader.py")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ("memory", 6, "OutOfMemory: no memory left; lower train.micro_batch_size"),
        ("input_output", 7, "DiskError: Input/output error: tokens.npy"),
        ("page", 3, "could not be read (SIGBUS): it was cut short, or the disk"),
    ],
)
def test_an_error_of_one_reader_ends_all_ranks(
    error: str,
    code: int,
    said: str,
    prepared: Path,
    workplace: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    done = run_ranks([FAILING, error, "6", "recipe.toml"], 2, workplace, timeout_seconds=120)
    assert done.exit_codes == [code, code], done.text
    assert "Traceback" not in done.text
    (own,) = (line for line in done.outputs[1].splitlines() if line.startswith("textmill: "))
    (other,) = (line for line in done.outputs[0].splitlines() if line.startswith("textmill: "))
    assert said in own
    assert other.startswith("textmill: rank 1 on ")
    assert said in other
    assert records(workplace)[-1]["step"] <= 6
    finished(workplace)
    same(workplace, uninterrupted(Shape(), prepared, tmp_path_factory))
