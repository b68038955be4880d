"""What becomes of a job when its stage ends: done, failed, or queued again, and how often."""

import subprocess
from pathlib import Path

import pytest

from tests.launch.slurm.conftest import StandIn
from tests.launch.slurm.test_hand_written import SHELLCHECK

SHARED = "launch/slurm/job.sh"
REQUEUE = "scontrol requeue 41"


def ended(
    stand_in: StandIn, codes: str, start: int = 0, function: str = "run_ranks", **settings: int
) -> tuple[int, bool]:
    """The exit code of the batch script and whether its job was queued again."""
    (stand_in.folder / "calls").unlink(missing_ok=True)
    script = f"set -euo pipefail\nsource {SHARED}\n{function} stage -- stage-python -m stage r.toml"
    found = stand_in.bash(
        *("-c", script),
        STAGE_CODES=codes,
        SLURM_RESTART_COUNT=str(start),
        **{f"TEXTMILL_{name.upper()}": str(value) for name, value in settings.items()},
    )
    return found.returncode, REQUEUE in stand_in.calls


def test_shellcheck_finds_nothing(root: Path) -> None:
    found = subprocess.run(
        [SHELLCHECK, str(root / SHARED)], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_done_and_failed(stand_in: StandIn) -> None:
    assert ended(stand_in, "0 0", restarts=3) == (0, False)
    assert ended(stand_in, "3 0", restarts=3) == (3, False)
    assert ended(stand_in, "0 7", restarts=3) == (7, False)


def test_the_first_failure_decides_not_the_end_of_the_others(stand_in: StandIn) -> None:
    assert ended(stand_in, "4 143", restarts=3) == (4, False)
    assert ended(stand_in, "5 137", restarts=0) == (5, False)
    assert ended(stand_in, "75 5", restarts=0) == (5, False)  # one has saved, the other is lost


@pytest.mark.parametrize("codes", ["75 75", "75 0", "138 138", "143 75"])
def test_a_stop_on_request_queues_the_job_again(stand_in: StandIn, codes: str) -> None:
    assert ended(stand_in, codes) == (0, True)


def test_requeues_are_limited(stand_in: StandIn) -> None:
    assert ended(stand_in, "75 75", start=1, requeues=2) == (0, True)
    assert ended(stand_in, "75 75", start=2, requeues=2) == (75, False)


@pytest.mark.parametrize("code", [5, 134, 137, 139])
def test_a_lost_rank_queues_the_job_again_as_often_as_asked(stand_in: StandIn, code: int) -> None:
    codes = f"{code} 143"
    assert ended(stand_in, codes, start=0) == (code, False)
    assert ended(stand_in, codes, start=0, restarts=2) == (0, True)
    assert ended(stand_in, codes, start=1, restarts=2) == (0, True)
    assert ended(stand_in, codes, start=2, restarts=2) == (code, False)


def test_lost_ranks_and_stops_are_counted_apart(stand_in: StandIn) -> None:
    limits = {"restarts": 1, "requeues": 2}
    assert ended(stand_in, "75 75", start=0, **limits) == (0, True)
    assert ended(stand_in, "5 143", start=1, **limits) == (0, True)
    assert ended(stand_in, "75 75", start=2, **limits) == (0, True)
    assert ended(stand_in, "5 143", start=3, **limits) == (5, False)


def test_a_start_that_lost_a_rank_counts_once(stand_in: StandIn) -> None:
    """SLURM may have started the job again before the batch script could."""
    notes = stand_in.folder / ".textmill-job-41.lost"
    notes.write_text("0\n0\n")
    assert ended(stand_in, "5 143", start=1, restarts=2) == (0, True)
    assert notes.read_text() == "0\n0\n1\n"
    assert ended(stand_in, "0 0", start=2, restarts=2) == (0, False)
    assert not notes.exists()


def test_one_process_and_its_failures(stand_in: StandIn) -> None:
    assert ended(stand_in, "0", function="run_alone") == (0, False)
    assert ended(stand_in, "7", function="run_alone") == (7, False)
    assert ended(stand_in, "137", function="run_alone", restarts=1) == (0, True)


def test_a_process_alone_is_ended_by_the_job_that_is_told_to_stop(stand_in: StandIn) -> None:
    """USR1 reaches the batch script, as `--signal=B:USR1` sends it."""
    script = (
        f"set -euo pipefail\nsource {SHARED}\n(sleep 0.5; kill -USR1 $$) &\n"
        "run_alone stage -- sleep 2"
    )
    found = stand_in.bash("-c", script)
    assert found.returncode == 0, found.stderr
    assert REQUEUE in stand_in.calls
