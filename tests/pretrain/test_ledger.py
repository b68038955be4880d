"""The ledger: exact numbers, hashes of what entered the model, no step twice."""

import hashlib
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pretrain import ledger
from pretrain.ledger import Ledger, digest, of_step
from pretrain.micro_batch import MicroBatch

BATCH = MicroBatch({"input_ids": torch.tensor([[5, 6]]), "segments": object()}, 1, 2)


def write(folder: Path, start: int, end: int, rank: int = 0, loss: float = 0.5) -> None:
    with Ledger(folder, start, rank) as written:
        for step in range(start + 1, end + 1):
            written.write(step, loss, 2.0, 3e-4, [BATCH], None, step - 1)


def steps(folder: Path, rank: int = 0) -> list[int]:
    lines = (folder / f"ledger/rank-{rank:05d}.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_a_line_holds_every_bit(tmp_path: Path) -> None:
    with Ledger(tmp_path, 0, 3) as written:
        written.write(1, 0.1, math.nan, 1.5, [BATCH, BATCH], "loss nan", 0)
    hashed = hashlib.sha256(
        b"input_ids torch.int64 [1, 2]\n" + bytes([5, *[0] * 7, 6, *[0] * 7])
    ).hexdigest()
    assert json.loads((tmp_path / "ledger/rank-00003.jsonl").read_text()) == {
        "step": 1,
        "data_step": 0,
        "loss": "0x1.999999999999ap-4",
        "gradient_norm": "nan",
        "learning_rate": "0x1.8000000000000p+0",
        "micro_batches": [hashed, hashed],
        "refused": "loss nan",
    }


def test_a_digest_sees_names_types_shapes_and_contents_but_not_the_order_of_names() -> None:
    a, b = torch.tensor([[1, 2, 3, 4]]), torch.tensor([0.5], dtype=torch.bfloat16)
    expected = digest({"a": a, "b": b})
    assert digest({"b": b, "a": a.clone()}) == expected
    others = [
        {"a": a, "c": b}, {"a": a.int(), "b": b}, {"a": a.reshape(2, 2), "b": b},
        {"a": a, "b": -b}, {"a": a}, {"a": a + torch.tensor([0, 0, 0, 1]), "b": b},
    ]  # fmt: skip
    assert expected not in {digest(other) for other in others}
    assert digest({"a": a.T.contiguous().T, "b": b}) == expected  # how it lies in memory
    assert digest({"a": torch.tensor(3)}) != digest({"a": torch.tensor(4)})  # a number
    single = torch.zeros(1).as_strided((1,), (0,))  # as numpy may hand over a single value
    assert digest({"a": single}) == digest({"a": torch.zeros(1)})


def test_a_resume_cuts_what_it_writes_again_and_a_torn_line(tmp_path: Path) -> None:
    write(tmp_path, 0, 6)
    path = tmp_path / "ledger/rank-00000.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    (tmp_path / "ledger/.rank-00000.jsonl.99.abcdef01.tmp").write_bytes(whole[:300])
    write(tmp_path, 4, 6)
    assert path.read_bytes() == whole
    assert list((tmp_path / "ledger").iterdir()) == [path]
    write(tmp_path, 0, 2)
    assert steps(tmp_path) == [1, 2]


def test_a_resume_on_fewer_ranks_leaves_no_line_of_the_others_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in range(3):
        write(tmp_path, 0, 6, rank)
    monkeypatch.setattr(ledger, "processes", SimpleNamespace(world_size=lambda: 2))
    for rank in range(2):
        write(tmp_path, 4, 8, rank)
    assert [steps(tmp_path, rank)[-1] for rank in range(3)] == [8, 8, 4]
    assert sorted(of_step(tmp_path, 4)) == [0, 1, 2]
    assert sorted(of_step(tmp_path, 5)) == [0, 1]
    assert of_step(tmp_path, 9) == of_step(tmp_path / "nowhere", 1) == {}
    assert of_step(tmp_path, 5)[1]["data_step"] == 4
