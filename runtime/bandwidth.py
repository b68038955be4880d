"""`python -m runtime.bandwidth`: how fast an all-reduce is between the ranks of the environment.

Every rank prints one line of JSON: the backend, and gigabytes a second as NCCL's own tests count
them ("bus bandwidth": what a link must carry whatever the number of ranks, 2 (n - 1) / n times the
size by the time). The message grows to 64 MiB, less where that would take long.
"""

import json
import logging
import time

import torch

from runtime import processes

JOIN_SECONDS = 60.0
SMALL = 1 << 20  # bytes
LARGE = 64 << 20
LONG_SECONDS = 1.5
REPEATS = 3


def main() -> None:
    """Join, measure, print. All ranks call it."""
    logging.basicConfig(level=logging.ERROR)
    processes.start(JOIN_SECONDS)
    try:
        seconds(SMALL)  # connections are made
        expected = seconds(SMALL) * LARGE / SMALL
        # The sum is the same on all ranks, and so must the size be.
        mean = processes.sum_over_ranks([expected])[0] / processes.world_size()
        size = LARGE if mean < LONG_SECONDS else SMALL
        taken = min(seconds(size) for _ in range(REPEATS if size == LARGE else 1))
        world = processes.world_size()
        speed = 2 * (world - 1) / world * size / taken / 1e9
        print(json.dumps({"gigabytes_per_second": speed, "backend": processes.backend()}))
    finally:
        processes.stop()


def seconds(size: int) -> float:
    """The time of one all-reduce of this many bytes."""
    values = torch.zeros(size // 4, device=processes.device())
    processes.barrier()
    began = time.perf_counter()
    processes.add_over_ranks(values)
    if values.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
