"""`python rank_program.py JSON`: a rank that only steps and communicates, with a fault on request.

JSON holds `steps`, `seconds` (of a step), `min_seconds` of the watchdog, and optionally `fault`:
[rank, step, name] with a name of FAULTS, which happens in the forward part of that step; with
`enabled` false no watchdog, with `timeout` the seconds a collective may take, with
`machines` the number of the machine that each rank takes itself to be on. What a rank that was not
killed ended with is in the file `code-RANK`.
"""

import ctypes
import json
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from runtime import command, config, processes, signals
from runtime.errors import DataError, StopRequested, run_command
from runtime.watchdog import watching
from runtime.watchdog.activity import END, activity

GIVEN = json.loads(sys.argv[1])
FOR_EVER = 3600


def spin() -> None:
    while True:
        pass


def hold_interpreter() -> None:
    """Native code that does not give the interpreter back."""
    ctypes.PyDLL(None).sleep(FOR_EVER)


def refuse() -> None:
    raise DataError("shard 7 is unreadable; repair it")


def fail_together() -> None:
    """All ranks end with the same error, one a little later."""
    time.sleep(0.5 * processes.rank())
    refuse()


def break_down() -> None:
    raise ValueError("a bug")


def break_collective() -> None:
    """As a collective does for which the network fails, although all ranks are there."""
    raise RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:1] Read timeout")


def crawl() -> None:
    """Longer than the limit, a little at a time."""
    for _ in range(20):
        with activity.inside("forward"):
            time.sleep(0.3)


def evaluate_long() -> None:
    """Longer than the limit without any sign but the processor's."""
    with activity.inside("evaluation"):
        ends = time.monotonic() + 6
        while time.monotonic() < ends:
            sum(range(10000))


def evaluate_for_ever() -> None:
    with activity.inside("evaluation"):
        spin()


def save_long() -> None:
    """Longer than the limit without any sign but the bytes that are written."""
    with activity.inside("checkpoint"), Path(f"shard-{os.getpid()}").open("wb", 0) as file:
        for _ in range(60):
            file.write(bytes(1 << 20))
            time.sleep(0.1)


def hang_in_evaluation() -> None:
    with activity.inside("evaluation"):
        time.sleep(FOR_EVER)


def work_silently() -> None:
    """At least 5 s of native code that computes without giving the interpreter back."""
    with activity.inside("evaluation"):
        began = time.monotonic()
        match(20)
        seconds = time.monotonic() - began
        time.sleep(1.0)  # beats: the others know where it is
        match(20 + math.ceil(math.log2(5.0 / seconds)))


def match(length: int) -> None:
    """Twice the work for each letter."""
    re.match(r"(a+)+$", "a" * length + "b")


def stop() -> None:
    time.sleep(1.0)  # beats: the others know where it is
    os.kill(os.getpid(), signal.SIGSTOP)


FAULTS: dict[str, Callable[[], None]] = {
    "sleep": lambda: time.sleep(FOR_EVER),
    "spin": spin,
    "hold_interpreter": hold_interpreter,
    "refuse": refuse,
    "fail_together": fail_together,
    "break_down": break_down,
    "break_collective": break_collective,
    "crawl": crawl,
    "evaluate_long": evaluate_long,
    "evaluate_for_ever": evaluate_for_ever,
    "save_long": save_long,
    "hang_in_evaluation": hang_in_evaluation,
    "work_silently": work_silently,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": stop,
    "exit": lambda: os._exit(0),
}


def be_on_machines(numbers: list[int]) -> None:
    of_this_process = watching.facts_of_this_process
    watching.facts_of_this_process = lambda rank: (
        rank, f"node-{numbers[rank]}", f"machine {numbers[rank]}", *of_this_process(rank)[3:]
    )  # fmt: skip


def run() -> None:
    if "machines" in GIVEN:
        be_on_machines(GIVEN["machines"])
    command.start_logging()
    recipe = config.Recipe(
        name="ranks",
        output=Path("run"),
        watchdog=config.Watchdog(
            min_seconds=GIVEN["min_seconds"], enabled=GIVEN.get("enabled", True)
        ),
        engine=config.Engine(
            threads_per_rank=1, collective_timeout_seconds=GIVEN.get("timeout", 1800)
        ),
    )
    faulty, at_step, name = GIVEN.get("fault", [None, None, None])
    with processes.joined(recipe, "pretrain"):
        for step in range(1, GIVEN["steps"] + 1):
            activity.begin_step(step)
            with activity.inside("forward"):
                time.sleep(GIVEN["seconds"])
                if step == at_step and faulty in (processes.rank(), "all"):
                    FAULTS[name]()
            if processes.any_rank(signals.stop_requested()):
                raise StopRequested(f"stopped at step {step}")
            activity.end_step()
            Path(f"step-{processes.rank()}").write_text(str(step))
        activity.begin(END)
    names = [thread.name for thread in threading.enumerate()]
    print(f"done with threads {names}, open {open_files()}")


def open_files() -> list[str]:
    """Sockets and files of the run that this process holds."""
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    return [link for link in links if "socket:" in link or "/run/" in link]


def main() -> int:
    signals.install()
    code = run_command(run)
    Path(f"code-{os.environ.get('RANK', '0')}").write_text(str(code))
    return code


if __name__ == "__main__":
    command.leave(main)
