"""How fast a predictor is: time of single inputs by length, and of whole rows in batches."""

import statistics
import time
from collections.abc import Sequence

import numpy as np

from finetune.collate import MODEL_INPUTS, collate
from finetune.predict import Predictor
from finetune.task import Dataset, Window

LENGTHS = (16, 32, 64, 128, 256, 512)  # tokens
RUNS = 20  # of each length, their median counts ...
SECONDS = 1.0  # ... or fewer, if they take longer than this
WARM_UPS = 2


def latencies(predictor: Predictor, windows: Sequence[Window]) -> dict[str, float]:
    """Median milliseconds of one input, by its number of tokens; real tokens, repeated or cut."""
    found = {}
    for length in LENGTHS:
        if length > predictor.max_length:
            break
        arrays = collate([resized(windows[0], length)], predictor.plugin.HEAD, 0)
        inputs = {name: arrays[name] for name in MODEL_INPUTS if name in arrays}
        times: list[float] = []
        for run in range(WARM_UPS + RUNS):
            start = time.perf_counter()
            predictor.runner.run(inputs)
            if run >= WARM_UPS:
                times.append(time.perf_counter() - start)
            if sum(times) > SECONDS:
                break
        found[str(length)] = round(1000 * statistics.median(times), 2)
    return found


def resized(window: Window, length: int) -> Window:
    types = window.token_type_ids
    return Window(
        row=0,
        input_ids=np.resize(window.input_ids, length),
        token_type_ids=None if types is None else np.resize(types, length),
        positions=window.positions[:0],
        targets=window.targets[:0],
        words=window.words[:0],
    )


def rows_per_second(num_rows: int, seconds: float) -> float:
    return round(num_rows / max(seconds, 1e-9), 1)


def warm_up(predictor: Predictor, dataset: Dataset) -> None:
    """Let a runtime allocate what it needs."""
    predictor.predictions(Dataset(dataset.path, dataset.rows[:8]))
