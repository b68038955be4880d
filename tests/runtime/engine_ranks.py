"""Run by test_engine.py on each rank: a list of short trainings of a small model, one after the
other in the same processes; rank 0 writes what came out of each."""

import gc
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from runtime import config, processes
from runtime.ds_config import Batch
from runtime.engine import Engine, convert_to_universal

SAMPLES, LENGTH, VOCABULARY = 8, 16, 64
OPTIMIZER = config.Optimizer(learning_rate=1e-2, weight_decay=0.1)


@dataclass(frozen=True)
class Case:
    """One training."""

    ds_config: str
    precision: str = "fp32"
    optimizer: str = "adamw"
    steps: int = 20
    micro_size: int = 2
    grows: bool = True  # every other step has half the samples
    refuses: bool = False  # steps of other data are refused in between
    clip_norm: float = 0.2  # all gradients of the first steps are larger
    reloads: str = ""  # half-way into another engine: from its "shards", or made "universal"
    compiles: bool = False  # the encoder by torch.compile, without code generation

    @property
    def name(self) -> str:
        return "-".join(str(value) for value in asdict(self).values())


class Summed(nn.Module):
    """A masked-LM loss summed over its targets."""

    def __init__(self, folder: Path, compiles: bool = False) -> None:
        super().__init__()
        self.model = BertForMaskedLM.from_pretrained(folder)
        if compiles:
            self.model.bert.encoder.compile(backend="aot_eager")

    def forward(self, input_ids: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        logits = self.model(input_ids=input_ids).logits.float()
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        return (loss,)


def save_model(folder: Path) -> None:
    """The weights that every training starts from: ZeRO-3 would draw others of the same seed."""
    torch.manual_seed(5)
    BertForMaskedLM._from_config(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    ).save_pretrained(folder)


def learning_rate(step: int) -> float:
    return OPTIMIZER.learning_rate * min(1.0, (step + 1) / 5)


def samples(step: int, grows: bool) -> tuple[Tensor, Tensor]:
    """Ids and labels of a global batch; samples have very different numbers of targets, so that a
    mean of means would differ."""
    generator = torch.Generator().manual_seed(step % 3)
    ids = torch.randint(0, VOCABULARY, (SAMPLES, LENGTH), generator=generator)
    keep = torch.arange(LENGTH) < torch.arange(1, SAMPLES + 1)[:, None] * 2
    labels = torch.where(keep, ids.flip(1), torch.tensor(-100))
    count = SAMPLES // 2 if grows and step % 2 else SAMPLES
    return ids[:count], labels[:count]


def num_targets(labels: Tensor) -> int:
    return int((labels != -100).sum())


def trained(case: Case, folder: Path) -> Iterator[Any]:
    """Loss and norm of every step; then the parameters (None but on rank 0)."""
    table = config.Engine(ds_config=case.ds_config, precision=case.precision)  # type: ignore[arg-type]
    changes = {"name": case.optimizer, "clip_norm": case.clip_norm}
    optimizer = OPTIMIZER.model_copy(update=changes)
    batch = Batch(SAMPLES, case.micro_size)

    def new_engine() -> Engine:
        return Engine(lambda: Summed(folder, case.compiles), table, optimizer, batch, seed=5)

    engine = new_engine()
    rank, stride = processes.rank(), case.micro_size * processes.world_size()

    def step(number: int, refused: bool) -> tuple[float, float]:
        asked: list[float] = []
        ids, labels = samples(number, case.grows)
        targets = num_targets(labels) if number != 3 or not refused else math.nan
        began = time.perf_counter()
        starts = range(rank * case.micro_size, len(ids), stride)
        engine.begin_step(len(starts))
        loss = 0.0
        for start in starts:
            part = slice(start, start + case.micro_size)
            inputs = {"input_ids": ids[part], "labels": labels[part]}
            loss += engine.accumulate(inputs, targets).item()

        def accepts(norm: float) -> bool:
            asked.append(norm)
            return not refused

        norm = engine.step(learning_rate(number), accepts)
        check_seconds(engine.take_seconds(), time.perf_counter() - began)
        assert len(asked) == 1
        assert math.isfinite(norm) == (not math.isnan(targets))
        assert asked == [norm] or math.isnan(norm)
        everyone = processes.gather(repr(norm))
        assert set(everyone) == {repr(norm)}
        return processes.sum_over_ranks([loss])[0], norm

    for number in range(case.steps):
        if case.reloads and number == case.steps // 2:
            saved = folder.parent / case.name / "saved"
            engine.save_shards(saved)
            if case.reloads == "universal":
                saved = converted(saved)
            engine = new_engine()
            engine.load_shards(saved, case.reloads == "universal")
        if case.refuses and number in (0, 3, 4):
            step(number, refused=True)
        yield step(number, refused=False)
    yield engine.full_parameters()


def converted(saved: Path) -> Path:
    """The universal checkpoint of saved shards."""
    processes.barrier()
    if processes.rank() == 0:
        convert_to_universal(saved, saved.with_name("universal"))
    processes.barrier()
    return saved.with_name("universal")


def check_seconds(seconds: dict[str, float], elapsed: float) -> None:
    """Every part took some time, and together no more than there was."""
    assert 0 < sum(seconds.values()) <= elapsed
    communicates = processes.world_size() > 1
    assert all(value > 0 for part, value in seconds.items() if part != "communication")
    assert seconds["communication"] > 0 or not communicates


def main(folder: Path, output: Path, cases: list[Case]) -> None:
    processes.start(60)
    torch.set_num_threads(1)
    results = {}
    for case in cases:
        *losses, parameters = trained(case, folder)
        results[case.name] = {"losses": losses, "parameters": parameters}
        gc.collect()  # DeepSpeed's engines hold themselves in circles
    if processes.rank() == 0:
        torch.save(results, output)
    processes.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Case(**case) for case in json.loads(sys.argv[3])])
