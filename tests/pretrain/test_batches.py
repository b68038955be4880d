"""Batches: a pure function of the step, the same samples whatever the ranks, static shapes."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.blocks import BLOCK_BYTES
from data_prep.mixture import Shares, sample_order
from data_prep.shards import Corpus, Reader, write_shard
from pretrain import masking, phases
from pretrain.batches import (
    FixedMixing,
    MixtureBatches,
    PhaseData,
    gather,
    of_phase,
    phase_data,
)
from pretrain.budget import budget_of
from pretrain.config import Objective, Recipe, Train
from pretrain.masker import Masker
from pretrain.model.objective import IGNORED
from runtime.config import Launch
from runtime.errors import DataError

EQUAL = Shares((0.5, 0.5), (None, None))
TWO_PHASES = [{"share": 0.5}, {"share": 0.5, "sequence_length": 128, "weights": {"ships": 1.0}}]


@pytest.fixture(scope="module")
def corpus(prepared: Path) -> Corpus:
    return Corpus(prepared / "run/data")


@pytest.fixture(scope="module")
def longer(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with the same documents in samples of 128 tokens."""
    folder = tmp_path_factory.mktemp("run")
    budget = budget_of(table(phases=TWO_PHASES), corpus.sequence_length)
    phases.prepare(corpus, budget, folder, workers=1)
    return folder


def table(**changes: Any) -> Train:
    given = {"total_tokens": 20_000, "global_batch_size": 16, "micro_batch_size": 4}
    return Train.model_validate(given | changes)


def recipe_with(train: Train, seed: int) -> Recipe:
    launch = Launch(workers=1)
    return Recipe.model_construct(
        name="test", output=Path("run"), train=train, seed=seed, launch=launch
    )


def batches(
    corpus: Corpus, rank: int = 0, world_size: int = 1, micro_size: int = 4, **changes: Any
) -> MixtureBatches:
    """Of one phase, unless a folder with the shards of the second is given as `run`."""
    run = changes.pop("run", None)
    given = table(micro_batch_size=micro_size, **changes)
    budget = budget_of(given, corpus.sequence_length)
    masker = Masker(corpus, Objective(), seed=3, first_position=0)
    data = [of_phase(0, corpus, EQUAL, seed=3)]
    if run is not None:
        later = phases.opened(corpus, budget.lengths, run)[1]
        data.append(of_phase(1, later, Shares((0.0, 1.0), (None, None)), seed=3))
    return MixtureBatches(masker, data, budget, rank, world_size)


def rows(parts: Sequence[MixtureBatches], step: int, length: int = 64) -> list[bytes]:
    """The masked samples of a step, of all ranks."""
    return sorted(
        row.tobytes()
        for part in parts
        for micro in part.micro_batches(step)
        for row in micro.inputs["input_ids"].numpy().reshape(-1, length)
    )


def test_steps_cover_the_tokens_asked_for(corpus: Corpus) -> None:
    assert batches(corpus, total_tokens=5000).total_steps == 5  # 5 x 16 x 64 = 5120 >= 5000


def test_a_step_holds_the_same_masked_samples_for_any_split(corpus: Corpus) -> None:
    for step in (0, 7):
        one = rows([batches(corpus, 0, 1, 4)], step)
        assert len(set(one)) == 16
        assert rows([batches(corpus, rank, 2, 8) for rank in range(2)], step) == one
        assert rows([batches(corpus, rank, 4, 2) for rank in range(4)], step) == one


@pytest.mark.parametrize("step", [0, 1, 4, 9, 14, 25])
def test_the_split_changes_nothing_on_a_ramp_and_in_later_phases(
    corpus: Corpus, longer: Path, step: int
) -> None:
    """Batches of 4, 8 and 16 samples of 64 tokens, then 8 of 128; the last step is past the
    end."""
    how: dict[str, Any] = {
        "ramp_from": 4, "ramp_share": 0.1, "phases": TWO_PHASES, "run": longer
    }  # fmt: skip
    alone = batches(corpus, micro_size=2, **how)
    portion = alone.budget.at(step)
    length = alone.budget.lengths[portion.phase]
    one = rows([alone], step, length)
    assert len(one) == portion.num_samples
    parts = [batches(corpus, rank, 2, 2, **how) for rank in range(2)]
    assert {len(part.micro_batches(step)) for part in parts} == {
        portion.num_samples * length // 256
    }
    assert rows(parts, step, length) == one
    tokens = {micro.inputs["input_ids"].numel() for micro in alone.micro_batches(step)}
    assert tokens == {128}  # of a micro batch, in every phase


def test_the_order_and_masks_of_a_plain_run_are_those_of_its_mixture(corpus: Corpus) -> None:
    source = batches(corpus)
    counts = [corpus.reader(name, "train").num_samples for name in corpus.sources]
    for step in (0, 3, 1000):
        found = source.samples(step)
        order = sample_order(counts, EQUAL.weights, 3, 16 * step, 16)
        assert (found.order.source == order.source).all()
        assert (found.order.sample == order.sample).all()
        keys = masking.sample_keys(3, order.epoch, order.source, order.sample)
        assert (found.keys == keys).all()
        assert (found.phase, found.progress) == (0, min(1.0, step / 20))


def test_a_phase_has_its_own_order_and_masks(corpus: Corpus) -> None:
    """A second phase of the same samples sees them at other places, with other masks."""
    two = batches(corpus, phases=[{"share": 0.5}, {"share": 0.5}], run=corpus.folder)
    first, second = two.samples(0), two.samples(10)
    assert two.budget.at(10).first_sample == 0
    assert (first.phase, second.phase) == (0, 1)
    only = first.order.source == 1
    assert first.order.sample[only].tolist() != second.order.sample[: only.sum()].tolist()
    assert not set(first.keys.tolist()) & set(second.keys.tolist())
    assert len({phases.seed_of(3, number) for number in range(50)}) == 50
    assert phases.seed_of(3, 0) == 3


def test_a_step_depends_on_nothing_that_came_before(corpus: Corpus, longer: Path) -> None:
    """Resumed at any step: new objects give what those give that have gone through all steps."""
    how: dict[str, Any] = {"phases": TWO_PHASES, "run": longer}
    straight = batches(corpus, **how)
    lengths = [straight.budget.lengths[straight.budget.at(step).phase] for step in range(20)]
    seen = [rows([straight], step, length) for step, length in enumerate(lengths)]
    for step in (0, 9, 10, 19):
        assert rows([batches(corpus, **how)], step, lengths[step]) == seen[step]


def test_shapes_are_static_and_targets_are_the_original_tokens(corpus: Corpus) -> None:
    source = batches(corpus)
    shapes = {
        tuple(
            (name, tuple(value.shape)) for name, value in micro.inputs.items() if name != "segments"
        )
        for step in range(4)
        for micro in source.micro_batches(step)
    }
    assert len(shapes) == 1
    micro = source.micro_batches(0)[0]
    targets = micro.inputs["targets"].numpy()
    assert (targets[: micro.num_targets] != IGNORED).all()
    assert (targets[micro.num_targets :] == IGNORED).all()


def test_positions_restart_with_every_segment(corpus: Corpus) -> None:
    micro = batches(corpus).micro_batches(0)[0]
    boundaries = micro.inputs["segments"].boundaries.numpy()
    position_ids = micro.inputs["position_ids"].numpy()[0]
    assert boundaries[0] == 0
    assert boundaries[-1] == 4 * 64
    assert (position_ids[boundaries[:-1]] == 0).all()
    assert (np.diff(position_ids)[np.diff(position_ids) != 1] < 0).all()
    first = micro.inputs["input_ids"].numpy()[0, boundaries[:-1]]
    cls_id, pad_id = corpus.tokenizer.cls_id, corpus.tokenizer.pad_id
    assert set(first.tolist()) <= {cls_id, pad_id}


def test_documents_of_a_step_are_named_on_every_rank(corpus: Corpus, longer: Path) -> None:
    how: dict[str, Any] = {"phases": TWO_PHASES, "run": longer}
    source = batches(corpus, **how)
    names = source.documents(2)
    assert len(names) == 16
    found = source.samples(2)
    number, sample = int(found.order.source[5]), int(found.order.sample[5])
    name = list(corpus.sources)[number]
    documents = corpus.reader(name, "train").gather(np.array([sample])).documents
    assert names[5] == f"{name}/{sample}: " + ", ".join(f"{it:016x}" for it in documents.tolist())
    assert batches(corpus, 1, 2, **how).documents(2) == names
    assert all(re.match("shards-128/ships/[0-9]+: ", it) for it in source.documents(15))


def test_a_run_makes_the_shards_of_a_later_phase_once(workplace: Path) -> None:
    corpus, run = Corpus(workplace / "run/data"), workplace / "run/pretrain"
    run.mkdir()
    given = table(phases=TWO_PHASES)
    recipe = recipe_with(given, seed=7)
    budget = budget_of(given, corpus.sequence_length)
    first = phase_data(recipe, budget, corpus, run)
    made = {path: path.stat().st_mtime_ns for path in (run / "shards-128").rglob("*")}
    assert made
    again = phase_data(recipe, budget, corpus, run)
    assert {path: path.stat().st_mtime_ns for path in (run / "shards-128").rglob("*")} == made
    assert first[1].corpus.sequence_length == again[1].corpus.sequence_length == 128
    assert first[1].corpus.fingerprint == again[1].corpus.fingerprint
    assert first[0].seed == 7 != first[1].seed
    assert first[1].mixing.order(0, 9).source.tolist() == [1] * 9  # ships
    shutil.rmtree(run / "shards-128")
    (run / "shards-128").mkdir()
    with pytest.raises(DataError, match="shards-128 exists and is something else; remove it"):
        phase_data(recipe, budget, corpus, run)


def test_a_mixing_of_ones_own_takes_the_place_of_the_first(corpus: Corpus, tmp_path: Path) -> None:
    given = table()
    mixing = of_phase(0, corpus, Shares((1.0, 0.0), (None, None)), seed=1).mixing
    data = phase_data(
        recipe_with(given, seed=1),
        budget_of(given, corpus.sequence_length),
        corpus,
        tmp_path,
        mixing,
    )
    assert [part.mixing for part in data] == [mixing]


def two_blocks(corpus: Corpus, folder: Path) -> MixtureBatches:
    """Batches of 4 samples from one shard whose tokens fill one block and the start of another."""
    count = 34_000
    one, numbers = np.ones(count, np.int32), np.arange(count + 1)
    tokens = np.random.default_rng(0).integers(5, 400, (count, 64), dtype=np.uint16)
    documents = numbers[:-1].astype(np.uint64)
    entry = write_shard(folder, "train-00000", [tokens], 64 * one, numbers, documents, numbers[:-1])
    facts = {"num_samples": count, "num_tokens": 64 * count, "num_documents": count}
    reader = Reader(folder, facts | {"shards": [entry]}, 64)
    mixing = FixedMixing([count], Shares((1.0,), (None,)), 0)
    budget = budget_of(table(global_batch_size=4), 64)
    masker = Masker(corpus, Objective(), seed=0, first_position=0)
    return MixtureBatches(masker, [PhaseData(corpus, [reader], mixing, 0)], budget, 0, 1)


def test_a_block_damaged_in_mid_run_is_named_and_repaired(corpus: Corpus, tmp_path: Path) -> None:
    """Blocks are checked when first read: steps before the damage pass, the one that meets it
    says where it is, and once the file is as it was the same step goes on."""
    source = two_blocks(corpus, tmp_path)
    path = tmp_path / "train-00000.tokens.npy"
    sound = path.read_bytes()
    in_block_0 = BLOCK_BYTES // 128 - 1  # samples of 128 bytes, less the header
    meets = [max(source.samples(step).order.sample) >= in_block_0 for step in range(30)]
    first = meets.index(True)
    assert first > 0
    wanted = [rows([source], step) for step in range(first + 1)]
    path.write_bytes(sound[:-9] + bytes([sound[-9] ^ 1]) + sound[-8:])
    for phase in source.phases:
        phase.readers[0].mapped.clear()  # as a new process opens it
    assert [rows([source], step) for step in range(first)] == wanted[:first]
    with pytest.raises(DataError) as error:
        source.micro_batches(first)
    assert error.value.exit_code == 3
    assert f"{path}: block 1 (bytes {BLOCK_BYTES} to {2 * BLOCK_BYTES})" in str(error.value)
    path.write_bytes(sound)
    source.phases[0].readers[0].mapped.clear()
    assert rows([source], first) == wanted[first]


def test_gather_keeps_the_sequence_of_the_order(corpus: Corpus) -> None:
    readers: list[Reader] = [corpus.reader(name, "train") for name in corpus.sources]
    counts = [reader.num_samples for reader in readers]
    order = sample_order(counts, [0.3, 0.7], 5, 40, 30)
    found = gather(readers, order)
    ends = np.cumsum(found.counts)
    for place in range(30):
        one = readers[order.source[place]].gather(order.sample[place : place + 1])
        part = slice(ends[place] - found.counts[place], ends[place])
        assert (found.tokens[place] == one.tokens[0]).all()
        assert (found.lengths[part] == one.lengths).all()
        assert (found.documents[part] == one.documents).all()
