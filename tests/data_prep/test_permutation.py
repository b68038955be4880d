"""Shuffles: each sample once, forward on disk, and as random as a random order."""

import numpy as np
import pytest
from numpy.typing import NDArray

from data_prep import permutation
from data_prep.mixture import epoch_keys
from data_prep.permutation import BLOCK, WINDOW, permute, shuffled

Int64 = NDArray[np.int64]


def order(size: int, seed: int = 0, epoch: int = 0) -> Int64:
    """The whole epoch."""
    keys = epoch_keys(seed, 0, np.full(size, epoch))
    return shuffled(np.arange(size), size, keys)


@pytest.mark.parametrize("size", [*range(1, 130), 1000, BLOCK, WINDOW - 1, WINDOW])
def test_small_sources_once_each(size: int) -> None:
    assert (np.sort(order(size)) == np.arange(size)).all()


@pytest.mark.parametrize(
    "size",
    [WINDOW + 1, WINDOW + BLOCK - 1, WINDOW + BLOCK, WINDOW + BLOCK + 1, 2 * WINDOW - 1,
     2 * WINDOW, 2 * WINDOW + 1, 3 * WINDOW + 5 * BLOCK + 7],
)  # fmt: skip
def test_large_sources_once_each(size: int) -> None:
    for seed, epoch in ((0, 0), (0, 1), (9, 0)):
        assert (np.sort(order(size, seed, epoch)) == np.arange(size)).all()


def test_all_small_sizes_with_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permutation, "BLOCK", 4)
    monkeypatch.setattr(permutation, "WINDOW", 16)
    for size in range(1, 200):
        assert (np.sort(order(size, seed=size)) == np.arange(size)).all()


def test_epochs_and_seeds_differ() -> None:
    size = 2 * WINDOW
    orders = [order(size), order(size, epoch=1), order(size, seed=1)]
    for number, one in enumerate(orders):
        for other in orders[:number]:
            assert (one == other).mean() < 10 / size * 4


def test_goes_forward_on_disk() -> None:
    """A window of draws touches as many blocks as it has samples for, each one wholly."""
    size = 10 * WINDOW
    blocks = order(size).reshape(-1, WINDOW) // BLOCK
    touched = [np.unique(window) for window in blocks]
    assert {len(found) for found in touched} == {WINDOW // BLOCK}
    assert len(np.unique(np.concatenate(touched))) == size // BLOCK


def chi_square(counts: Int64) -> float:
    """Standard deviations by which Pearson's statistic of a table exceeds what chance gives."""
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    return float((statistic - freedom) / np.sqrt(2 * freedom))


def table(found: Int64, size: int, buckets: int) -> Int64:
    """How often a sample of each bucket stands in each bucket of the order."""
    rows = np.arange(len(found)) * buckets // len(found)
    counts = np.zeros((buckets, buckets), np.int64)
    np.add.at(counts, (rows, found * buckets // size), 1)
    return counts


def quality(found: Int64) -> dict[str, float]:
    """Statistics of an order of range(n), each near 0 for a random one."""
    size = len(found)
    steps = np.diff(found)
    serial = np.corrcoef(found[:-1], found[1:])[0, 1]
    return {
        "position against place": chi_square(table(found, size, 64)),
        "serial correlation": float(serial * np.sqrt(size)),
        "length of steps": float((np.abs(steps).mean() / (size / 3) - 1) * np.sqrt(size)),
        "neighbours stay neighbours": float((np.abs(steps) == 1).sum() - 2) / np.sqrt(2),
    }


@pytest.mark.parametrize("seed", range(4))
def test_a_source_of_one_window_is_as_random_as_numpy_shuffles_it(seed: int) -> None:
    ours = quality(order(WINDOW, seed))
    numpys = quality(np.random.default_rng(seed).permutation(WINDOW))
    for name, value in ours.items():
        assert abs(value) < 4, (name, value)  # standard deviations
        assert abs(numpys[name]) < 4, (name, numpys[name])


@pytest.mark.parametrize("seed", range(4))
def test_within_a_window_samples_of_all_its_blocks_are_mixed(seed: int) -> None:
    window = order(4 * WINDOW, seed)[WINDOW : 2 * WINDOW]
    places = np.searchsorted(np.unique(window), window)  # rank among the samples of the window
    for name, value in quality(places).items():
        assert abs(value) < 4, (name, value)
    # A run of 256 draws, a batch, holds about as many samples of each block as chance gives it.
    counts = np.zeros((WINDOW // 256, WINDOW // BLOCK), np.int64)
    np.add.at(counts, (np.arange(WINDOW) // 256, places // BLOCK), 1)
    assert abs(chi_square(counts)) < 4


def test_blocks_come_in_any_order() -> None:
    """Over many seeds a block is equally often in each window, and so is its neighbour."""
    size, seeds = 4 * WINDOW, 300
    num_blocks = size // BLOCK
    counts = np.zeros((num_blocks, 4), np.int64)
    together = 0
    for seed in range(seeds):
        keys = epoch_keys(seed, 0, np.zeros(num_blocks, np.int64))
        window = permute(np.arange(num_blocks), num_blocks, keys)
        place = np.argsort(window) * BLOCK // WINDOW
        np.add.at(counts, (np.arange(num_blocks), place), 1)
        together += int((place[:-1] == place[1:]).sum())
    assert abs(chi_square(counts)) < 4
    expected = seeds * (num_blocks - 1) * (WINDOW // BLOCK - 1) / (num_blocks - 1)
    assert abs(together - expected) < 4 * np.sqrt(expected)
