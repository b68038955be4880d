"""Tasks of an array without a cluster: every job once, and few claims that fail."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data_prep.executors import task
from data_prep.executors.task import CLAIMS, ENDED, JOBS, work_off
from tests.data_prep.test_executors import square


def spool_of(folder: Path, num_jobs: int) -> Path:
    for name in (CLAIMS, ENDED):
        (folder / name).mkdir(parents=True)
    jobs = list(range(num_jobs))
    (folder / JOBS).write_bytes(pickle.dumps((square, jobs, [f"unit-{job}" for job in jobs])))
    return folder


def results(spool: Path) -> dict[int, int]:
    return {int(path.name): pickle.loads(path.read_bytes()) for path in (spool / ENDED).iterdir()}


def test_many_tasks_rarely_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    num_jobs, num_tasks = 1_000, 50
    spool = spool_of(tmp_path, num_jobs)
    tried: list[int] = []
    claim = task.claim

    def counted_claim(spool: Path, number: int, name: str) -> bool:
        tried.append(number)
        return claim(spool, number, name)

    monkeypatch.setattr(task, "claim", counted_claim)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: work_off(spool, str(n), n / num_tasks), range(num_tasks)))
    assert results(spool) == {number: number**2 for number in range(num_jobs)}
    # Each of 50 tasks tries one of the others' to learn what is left; all jobs each were 50,000.
    assert num_jobs <= len(tried) <= num_jobs + 20 * num_tasks


def test_a_task_that_is_queued_again_ends_what_it_had_claimed(tmp_path: Path) -> None:
    spool = spool_of(tmp_path, 6)
    for number, name in ((1, "other"), (4, "ours"), (5, "ours")):
        task.claim(spool, number, name)
    (spool / ENDED / "5").write_bytes(pickle.dumps(25))
    work_off(spool, "ours", 0.5, is_restarted=True)
    assert sorted(results(spool)) == [0, 2, 3, 4, 5]  # 1 is another's
    work_off(spool, "other", is_restarted=True)
    assert results(spool) == {number: number**2 for number in range(6)}
