"""Torch for a model beside the one that is trained: what it computes depends on nothing else.

Inside there is one thread, whatever the machine has, and random numbers of a seed; afterwards both
are as they were, so training goes on as if nothing had happened.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def apart(seed: int = 0) -> Iterator[None]:
    """Torch on one core with random numbers of its own."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
