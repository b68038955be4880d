"""What a worker answers: the result of a job, or its exception on the way to the main process."""

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

J = TypeVar("J")


@dataclass(frozen=True)
class Failure:
    """An exception of a job and where it came from."""

    error: BaseException
    trace: str


def attempt(function: Callable[[J], Any], job: J) -> Any:
    """The job's result, or a Failure that pickles."""
    try:
        return function(job)
    except Exception as error:
        return Failure(portable(error), traceback.format_exc())


def result_of(answer: Any, name: str) -> Any:
    """The result in an answer of the job `name`. Raises the job's exception."""
    if isinstance(answer, Failure):
        answer.error.add_note(f"in a worker, at {name}:\n{answer.trace}")
        raise answer.error
    return answer


def portable(error: Exception) -> Exception:
    """The exception itself if it survives pickling."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # any class may refuse in any way
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
