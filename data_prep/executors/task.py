"""`python -m data_prep.executors.task SPOOL`: one task of a SLURM array.

It takes jobs of a pass until none is left, and leaves what came of each in the spool folder:

    jobs.pickle     (function, jobs, names), there before the first task
    claims/NUMBER   symbolic link to the task that has taken the job: made at once or not at all,
                    also on a network file system
    ended/NUMBER    pickled result of the job, or its Failure

A task that is queued again takes up the jobs it had claimed and not ended. No job is lost if a task
dies and none is harmed if two do it: the head process (slurm.py) hands out anew what is missing.
"""

import os
import pickle
import sys
from pathlib import Path

from data_prep.executors.outcome import Failure, attempt
from runtime.provenance import atomic

JOBS, CLAIMS, ENDED = "jobs.pickle", "claims", "ended"


def work_off(spool: Path, task: str) -> None:
    """Do jobs until none is left or one fails. A task that starts late finds no spool."""
    if not (spool / JOBS).exists():
        return
    function, jobs, names = pickle.loads((spool / JOBS).read_bytes())
    for number, job in enumerate(jobs):
        if not claim(spool, number, task):
            continue
        print(names[number], flush=True)
        answer = attempt(function, job)
        with atomic(spool / ENDED / str(number)) as temporary:
            temporary.write_bytes(pickle.dumps(answer))
        if isinstance(answer, Failure):
            return


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
    )
