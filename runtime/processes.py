"""Ranks: who we are, and the few collectives that decisions and sums go through.

The only importer of torch.distributed. Everything works alone (world size 1, nothing initialised).
A decision taken on one rank that others must follow goes through `any_rank` / `all_ranks`; one not
reduced is a hang.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from runtime import config, run_lock, signals
from runtime.errors import LostRankError, StopRequested, TextmillError
from runtime.watchdog import launcher, watching
from runtime.watchdog.activity import activity

T = TypeVar("T")
SLURM_NAMES = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
# In messages of collectives that fail because of others; only gloo's have no class of their own.
BROKEN = ("/gloo/", "Connection closed by peer", "Connection reset by peer", "NCCL")

timer: Callable[[], AbstractContextManager[None]] = nullcontext  # around every collective here


def time_collectives(around: Callable[[], AbstractContextManager[None]]) -> None:
    """Run the collectives of this module inside `around()` from now on."""
    global timer
    timer = around


def start(timeout_seconds: float) -> None:
    """Join the process group described by the environment; safe to call twice. All ranks call it.

    Ranks come from RANK / WORLD_SIZE / LOCAL_RANK, or SLURM's names under srun; alone when neither
    is set.
    """
    if dist.is_initialized():
        return
    if "RANK" not in os.environ and "SLURM_STEP_ID" in os.environ:
        os.environ.update({ours: os.environ[theirs] for ours, theirs in SLURM_NAMES.items()})
    if "RANK" not in os.environ:
        os.environ.update(
            RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0"
        )
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(
            backend(), store=store, rank=0, world_size=1, timeout=timedelta(seconds=timeout_seconds)
        )
        return
    if uses_cuda():
        torch.cuda.set_device(local_rank())
    dist.init_process_group(backend(), timeout=timedelta(seconds=timeout_seconds))


@contextmanager
def joined(recipe: config.Recipe, stage: str, parts: Sequence[str] = ()) -> Iterator[None]:
    """Be a rank inside the block, watched by the watchdog. All ranks enter and leave it.

    The stage's folder is this run's alone, and so are those of `parts`, which other runs may train
    by themselves. Raises LostRankError if not all ranks come, or if a collective breaks because one
    is lost.
    """
    is_launched = launcher.is_launched(os.environ)
    engine = recipe.engine
    try:
        start(engine.collective_timeout_seconds)
    except dist.DistError as error:
        raise LostRankError(
            f"not all ranks came together at {os.environ.get('MASTER_ADDR')}:"
            f"{os.environ.get('MASTER_PORT')} within {engine.collective_timeout_seconds} s "
            f"({error}); run again, or see that every host can reach that address"
        ) from error
    set_threads(engine.threads_per_rank)
    ranks = watching.Ranks(rank(), world_size(), gather, from_rank_0, is_broken)
    folder = recipe.output / "logs" / stage
    try:
        with (
            owning(recipe.output, (stage, *parts)),
            watching.watched(recipe.watchdog, ranks, folder, is_launched),
        ):
            yield
    except RuntimeError as error:
        if not is_broken(error):
            raise
        # Later ones are the watchdog's, which knows who is lost.
        raise LostRankError(
            f"communication with the other ranks broke while they met "
            f"({watching.first_line(error)}); run again"
        ) from error
    finally:
        stop()


@contextmanager
def owning(output: Path, names: Sequence[str]) -> Iterator[None]:
    """Have rank 0 own these parts of a run for all ranks inside the block. Raises BusyError on all
    of them."""
    fault = None
    with ExitStack() as held:
        if rank() == 0:
            try:
                for name in names:
                    lock = run_lock.acquire(run_lock.path_of(output, name), name)
                    held.callback(lock.release)
            except (TextmillError, OSError) as error:
                fault = error
        fault = from_rank_0(fault)
        if fault is not None:
            raise fault
        yield


def is_broken(error: BaseException) -> bool:
    """True for what a collective raises when another rank or the network fails it."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in BROKEN)


@contextmanager
def collective(name: str) -> Iterator[None]:
    """Around every collective here."""
    with activity.collective(name), timer():
        yield


def stop() -> None:
    """Leave the process group, if one was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


def set_threads(threads_per_rank: int | None) -> None:
    """Set the CPU threads of this rank; None shares the cores among the ranks of this machine."""
    if threads_per_rank is None:
        local_world = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))
        threads_per_rank = max(1, (os.cpu_count() or 1) // local_world)
    torch.set_num_threads(threads_per_rank)


def backend() -> str:
    return "nccl" if uses_cuda() else "gloo"


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def device() -> torch.device:
    """The device this rank computes on."""
    return torch.device("cuda", local_rank()) if uses_cuda() else torch.device("cpu")


def uses_cuda() -> bool:
    """True where there are CUDA devices and DS_ACCELERATOR, by which DeepSpeed chooses, does not
    ask for the CPU."""
    return os.environ.get("DS_ACCELERATOR") != "cpu" and torch.cuda.is_available()


def sum_over_ranks(values: Sequence[float]) -> list[float]:
    """Sum each value over all ranks in float64 (exact for counts below 2^53). All ranks call it."""
    if world_size() == 1:
        return [float(value) for value in values]
    total = torch.tensor(values, dtype=torch.float64, device=device())
    with collective("all_reduce"):
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]


def add_over_ranks(values: torch.Tensor) -> None:
    """Replace the values by their sums over all ranks. All ranks call it."""
    if world_size() > 1:
        total = values.to(device())
        with collective("all_reduce"):
            dist.all_reduce(total)
            values.copy_(total)


def exchange(sent: Sequence[torch.Tensor], lengths: Sequence[int]) -> list[torch.Tensor]:
    """Send the r-th flat tensor to rank r; returns what each rank sent here, `lengths` elements.
    All ranks call it."""
    if world_size() == 1:
        return list(sent)
    whole = torch.cat(list(sent)).to(device())
    received = whole.new_empty(sum(lengths))
    with collective("all_to_all_single"):
        dist.all_to_all_single(received, whole, list(lengths), [part.numel() for part in sent])
    return list(torch.split(received.to(sent[0].device), list(lengths)))


def any_rank(claim: bool) -> bool:
    """True on every rank if the claim holds on at least one. All ranks call it."""
    return sum_over_ranks([float(claim)])[0] > 0


def all_ranks(claim: bool) -> bool:
    """True on every rank only if the claim holds on all. All ranks call it."""
    return not any_rank(not claim)


def heed_stop() -> None:
    """Raises StopRequested on every rank if a stop signal has come to at least one. All ranks call
    it, where all that was computed is saved or can be computed again."""
    if any_rank(signals.stop_requested()):
        raise StopRequested("stopped on request; run the same command again to continue")


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        with collective("barrier"):
            dist.barrier()


def from_rank_0(value: T) -> T:
    """The value rank 0 passed, on every rank (pickled between our own ranks). All ranks call it."""
    if world_size() == 1:
        return value
    box: list[Any] = [value]
    with collective("broadcast_object_list"):
        dist.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[no-any-return]


def gather(value: T) -> list[T]:
    """The values of all ranks, in rank order, on every rank. All ranks call it."""
    if world_size() == 1:
        return [value]
    boxes: list[Any] = [None] * world_size()
    with collective("all_gather_object"):
        dist.all_gather_object(boxes, value)
    return boxes
