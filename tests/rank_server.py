"""A process that has imported what ranks need and forks one of them on request.

Started by tests/ranks.py with the number of its end of a socket and the names of what to import. A
request is one JSON line, and so is its answer:

    {"arguments": ["-m", "pretrain", ...], "environment": {...}, "folder": "...", "log": "..."}
        -> {"pid": 4711}
    {"pid": 4711}
        -> {"code": null} while it runs, then its exit code as `subprocess.Popen` gives it

A rank is a child of this process in the process group of the tests: it has its own environment,
working folder, arguments and output, no handler of a signal, and the memory of an interpreter that
has done nothing but import. When the tests end, however they end, so do this process and its ranks.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

# What takes long to import. It starts no thread and reads nothing of a rank's own environment:
# DeepSpeed's accelerator and the hub's offline switches are the same for all tests, and the number
# of threads is set anew by each run.
IMPORTED = (
    "pretrain.run", "pretrain.plan", "finetune.train", "finetune.plan", "data_prep.readers.jsonl",
    "transformers.models.modernbert.modeling_modernbert", "transformers.models.bert.modeling_bert",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "deepspeed.runtime.zero.muon.muon_optimizer",  # torch._inductor with it
    "deepspeed.ops.op_builder.all_ops", "setuptools",
)  # fmt: skip
PARENT_CHECK_SECONDS = 0.5
PR_SET_PDEATHSIG = 1


def main(connection: socket.socket, names: Sequence[str]) -> None:
    """Answer requests until the other end is closed or gone."""
    import_all(names)
    gc.freeze()
    parent, codes = os.getppid(), dict[int, int | None]()
    requests = connection.makefile("r", encoding="utf-8")
    try:
        while os.getppid() == parent:
            if not select.select([connection], [], [], PARENT_CHECK_SECONDS)[0]:
                continue
            line = requests.readline()  # one request is on its way at a time: nothing is read ahead
            if not line:
                break
            answer = answered(json.loads(line), codes, connection)
            connection.sendall(json.dumps(answer).encode() + b"\n")
    finally:
        for pid, code in codes.items():
            if code is None:
                os.kill(pid, signal.SIGKILL)


def import_all(names: Sequence[str]) -> None:
    for name in names:
        try:
            import_module(name)
        except Exception:  # a rank that needs it says so itself
            traceback.print_exc()
    num_threads = len(list(Path("/proc/self/task").iterdir()))
    if num_threads > 1 or threading.active_count() > 1:
        raise RuntimeError(f"{num_threads} threads after the imports: a fork would lose them")


def answered(
    request: dict[str, Any], codes: dict[int, int | None], connection: socket.socket
) -> dict[str, int | None]:
    if "pid" not in request:
        pid = os.fork()
        if pid == 0:
            connection.close()
            be_rank(**request)
        codes[pid] = None
        return {"pid": pid}
    pid = request["pid"]
    if codes[pid] is None:
        done, status = os.waitpid(pid, os.WNOHANG)
        codes[pid] = os.waitstatus_to_exitcode(status) if done else None
    return {"code": codes[pid]}


def be_rank(arguments: list[str], environment: dict[str, str], folder: str, log: str) -> NoReturn:
    """Become what `python ARGUMENTS` would be; ends this process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        if arguments[0] == "-m":
            sys.argv, sys.path[0] = arguments[1:], folder
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).parent)
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
