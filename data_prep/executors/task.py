"""`python -m data_prep.executors.task SPOOL`: one task of a SLURM array.

It takes jobs of a pass until none is left, and leaves what came of each in the spool folder:

    jobs.pickle     (function, jobs, names), there before the first task
    claims/NUMBER   symbolic link to the task that has taken the job: made at once or not at all,
                    also on a network file system
    ended/NUMBER    pickled result of the job, or its Failure

Tasks begin at places of their own, evenly spread. One that meets another's claim looks at all of
them, and goes on at its place among the jobs that are left: so a thousand tasks do not try every
job each.

A task that is queued again takes up the jobs it had claimed and not ended. No job is lost if a task
dies and none is harmed if two do it: the head process (slurm.py) hands out anew what is missing.
"""

import os
import pickle
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from data_prep.executors.outcome import Failure, attempt
from runtime.provenance import atomic

JOBS, CLAIMS, ENDED = "jobs.pickle", "claims", "ended"


def work_off(spool: Path, task: str, place: float = 0.0, is_restarted: bool = False) -> None:
    """Do jobs until none is left or one fails, those at `place` (in [0, 1)) of all that are left
    first. A task that starts late finds no spool."""
    if not (spool / JOBS).exists():
        return
    function, jobs, names = pickle.loads((spool / JOBS).read_bytes())
    left = deque(begun_by(spool, task) if is_restarted else [])
    left.extend(from_place(range(len(jobs)), place))
    while left:
        number = left.popleft()
        if not claim(spool, number, task):
            claimed = {int(name) for name in os.listdir(spool / CLAIMS)}
            left = deque(from_place(sorted({*left} - claimed), place))
            continue
        print(names[number], flush=True)
        answer = attempt(function, jobs[number])
        with atomic(spool / ENDED / str(number)) as temporary:
            temporary.write_bytes(pickle.dumps(answer))
        if isinstance(answer, Failure):
            return


def from_place(numbers: Sequence[int], place: float) -> list[int]:
    """The numbers, beginning at a place in [0, 1) of them."""
    first = int(place * len(numbers))
    return [*numbers[first:], *numbers[:first]]


def begun_by(spool: Path, task: str) -> list[int]:
    """The jobs that a task has claimed and not ended."""
    paths = [spool / CLAIMS / name for name in os.listdir(spool / CLAIMS)]
    claimed = sorted(int(path.name) for path in paths if os.readlink(path) == task)
    return [number for number in claimed if not (spool / ENDED / str(number)).exists()]


def claim(spool: Path, number: int, task: str) -> bool:
    """Take a job, if no other task has it. Raises FileNotFoundError when the spool is gone."""
    path = spool / CLAIMS / str(number)
    try:
        path.symlink_to(task)
    except FileExistsError:
        return os.readlink(path) == task and not (spool / ENDED / str(number)).exists()
    return True


if __name__ == "__main__":
    work_off(
        Path(sys.argv[1]),
        f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}",
        int(os.environ["SLURM_ARRAY_TASK_ID"]) / int(os.environ["SLURM_ARRAY_TASK_COUNT"]),
        is_restarted=os.environ.get("SLURM_RESTART_COUNT", "0") != "0",
    )
