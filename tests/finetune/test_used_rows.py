"""The embedding of the tokens in use alone: the same model, whole again in its export."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from finetune import heads, used_rows
from finetune.heads import Objective
from finetune.task import Loss, Window
from tests.finetune.conftest import write_encoder
from tests.finetune.test_packed import LABELS, PACKED, PADDED, outcome, windows


def objective(folder: Path, given: list[Window] | None) -> Objective:
    """Without dropout; with the rows that windows use, or with all."""
    if given is None:
        model, rows = heads.build(folder, "token", LABELS, False), None
    else:
        model, rows = heads.build_for(folder, "token", LABELS, False, given)
    # The same layers of the task, which are random.
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.startswith(heads.HEAD_PARTS):
            nn.init.normal_(parameter, std=0.1)
    return Objective(model, "token", Loss(), rows=rows).eval()


@pytest.mark.parametrize(
    ("architecture", "is_packed"),
    [*((name, True) for name in PACKED), *((name, False) for name in (*PACKED, *PADDED))],
)
def test_the_same_outputs_and_gradients(architecture: str, is_packed: bool, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, architecture)
    given = windows("token")
    whole, some = objective(folder, None), objective(folder, given)
    if not is_packed:
        whole.pack(False)
        some.pack(False)
    rows = some.rows
    assert rows is not None
    used = {int(i) for window in given for i in window.input_ids}
    padding = {whole.model.config.pad_token_id, whole.model.get_input_embeddings().padding_idx}
    assert used <= set(rows.ids.tolist()) <= used | padding
    assert heads.num_left_out(some) == sum(p.numel() for p in whole.parameters()) - sum(
        p.numel() for p in some.parameters()
    )
    loss, logits, _ = outcome(whole, given)
    our_loss, our_logits, _ = outcome(some, given)
    assert torch.equal(our_loss, loss)
    assert torch.equal(our_logits, logits)
    theirs = {name: p.grad for name, p in whole.named_parameters()}
    for name, parameter in some.named_parameters():
        gradient = theirs[name]
        if gradient is not None and parameter is rows.embedding.weight:
            gradient = gradient[rows.ids]
        assert (parameter.grad is None) == (gradient is None), name
        if gradient is not None:
            assert torch.equal(parameter.grad, gradient), name


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "albert"])
def test_an_export_has_all_rows(architecture: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, architecture)
    trained = objective(folder, windows("token"))
    rows = trained.rows
    assert rows is not None
    with torch.no_grad():
        rows.embedding.weight.add_(1.0)
    before = heads.build(folder, "token", LABELS, False)
    state = {name: value.detach() for name, value in trained.model.named_parameters()}
    with trained.exported(state) as restored:
        trained.model.save_pretrained(tmp_path / "export", state_dict=restored)
    assert trained.model.get_input_embeddings() is rows.embedding
    after = heads.build(tmp_path / "export", "token", LABELS, False)
    assert after.config.vocab_size == before.config.vocab_size
    ours, theirs = (m.get_input_embeddings().weight.detach() for m in (after, before))
    is_used = torch.zeros(len(theirs), dtype=torch.bool)
    is_used[rows.ids] = True
    assert torch.equal(ours[~is_used], theirs[~is_used])
    assert torch.equal(ours[is_used], theirs[is_used] + 1.0)
    assert torch.equal(rows.whole, theirs)  # for the next export


def test_padding_stays_where_it_was_if_it_can() -> None:
    ids = np.array([0, 2, 5, 9, 11])
    assert used_rows.in_place(ids, None).tolist() == [0, 2, 5, 9, 11]
    assert used_rows.in_place(ids, 0).tolist() == [0, 2, 5, 9, 11]
    assert used_rows.in_place(np.array([0, 1, 5]), 1).tolist() == [0, 1, 5]
    assert used_rows.in_place(np.array([0, 1, 5, 7, 8]), 1)[1] == 1
    assert used_rows.in_place(ids, 11).tolist() == [0, 2, 5, 9, 11]  # there is no row 11


def test_all_rows_in_use(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path)
    model = heads.build(folder, "token", LABELS, False)
    rows = model.get_input_embeddings().num_embeddings
    window = windows("token")[0]
    every = Window(0, np.arange(rows, dtype=np.int32), None, window.positions, window.targets,
                   window.words)  # fmt: skip
    assert used_rows.of(model, [every]) is None


def test_a_token_that_was_not_announced(tmp_path: Path) -> None:
    found = objective(write_encoder(tmp_path), windows("token", 2))
    assert found.rows is not None
    stranger = int((found.rows.lookup < 0).nonzero()[0])
    window = windows("token", 1)[0]
    window.input_ids[0] = stranger
    with pytest.raises(AssertionError, match="none of those that the data were said to use"):
        found.inputs([window])
