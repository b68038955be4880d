"""The tokenizer's sample: within its budget, by weight, the same whoever read the units."""

from pathlib import Path

import numpy as np
import pytest

from data_prep import dedup, reading, sampling, stored, units
from data_prep.augmenting import Augment
from data_prep.cleaning import Clean
from data_prep.decontamination import Decontaminate
from data_prep.dedup import Dedup
from data_prep.readers.jsonl import Params
from data_prep.reading import ReadJob
from data_prep.units import Unit
from data_prep.work import Work, save_array
from tests.data_prep.conftest import texts, write_jsonl

VALID_SHARE = 0.1


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Work, dict[str, list[Unit]]]:
    """Two sources, the second twice the first, read and with nothing removed."""
    work = Work(tmp_path / "work")
    work.folder.mkdir()
    found = {}
    for name, count in (("small", 200), ("large", 400)):
        path = write_jsonl(tmp_path / f"{name}.jsonl", texts(count, seed=count))
        params = Params(reader="jsonl", path=str(path), unit_bytes=20_000)
        found[name] = units.units_of(name, params)
        for unit in found[name]:
            job = ReadJob(work, unit, params, Clean(), Dedup(), Decontaminate(), Augment(), 0, None)
            journal = reading.read_unit(job)
            save_array(work.path(f"keep/{unit.name}", ".npy"), np.ones(journal["kept"], bool))
    return work, found


def size(spans: list[str]) -> int:
    return sum(len(span.encode()) for span in spans)


def take(prepared: tuple[Work, dict[str, list[Unit]]], budget: int, **weights: float) -> list[str]:
    return list(sampling.sample(*prepared, weights, budget, VALID_SHARE))


def test_all_training_text_if_it_fits(prepared: tuple[Work, dict[str, list[Unit]]]) -> None:
    work, found = prepared
    spans = take(prepared, 10**9)
    expected = 0
    for listed in found.values():
        for unit in listed:
            hashes = stored.unit_array(work, unit.name, "hashes")
            sizes = stored.unit_array(work, unit.name, "bytes")
            expected += int(sizes[~dedup.is_valid(hashes, VALID_SHARE)].sum())
    assert abs(size(spans) - expected) <= len(spans)  # newlines between spans


def test_budget_weights_and_repeatability(
    prepared: tuple[Work, dict[str, list[Unit]]],
) -> None:
    spans = take(prepared, 100_000)
    assert 70_000 < size(spans) < 130_000
    assert spans == take(prepared, 100_000)
    even = take(prepared, 100_000, small=1.0, large=1.0)
    marked = sum(len(span) for span in even if " 200-" in span)
    assert 0.35 < marked / sum(map(len, even)) < 0.65
    alone = take(prepared, 50_000, small=1.0)
    assert all(" 200-" in span for span in alone)


def test_a_source_much_larger_than_its_budget_is_not_read_whole(
    prepared: tuple[Work, dict[str, list[Unit]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    whole = sampling.spans_of

    def watched(work: Work, unit: Unit, share: float, valid_share: float) -> object:
        opened.append(unit.name)
        return whole(work, unit, share, valid_share)

    monkeypatch.setattr(sampling, "spans_of", watched)
    take(prepared, 6_000)
    assert 0 < len(opened) < sum(len(listed) for listed in prepared[1].values()) / 2
