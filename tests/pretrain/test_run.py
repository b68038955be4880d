"""A run on one rank: what it exports, what it continues, what it refuses and how it exits."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from data_prep.shards import Corpus
from pretrain import __main__ as command
from pretrain.model import attention
from pretrain.model.attention import segments_of
from pretrain.run import decontamination_of
from tests.ranks import ROOT, Finished, run_ranks


def start(folder: Path, *overrides: str, **how: object) -> Finished:
    """`python -m pretrain` on one rank, 4 steps unless told otherwise."""
    arguments = ["-m", "pretrain", "recipe.toml", "train.total_tokens=4096", *overrides]
    return run_ranks(arguments, 1, folder, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short finished run in fp32, through the command a user types."""
    folder = tmp_path_factory.mktemp("trained") / "workplace"
    shutil.copytree(prepared, folder)
    done = start(folder, 'engine.precision="fp32"')
    assert done.exit_codes == [0], done.text
    return folder


def test_export_is_an_ordinary_model_with_its_tokenizer(trained: Path) -> None:
    export = trained / "run/pretrain/export"
    model = AutoModelForMaskedLM.from_pretrained(export).eval()
    tokenizer = AutoTokenizer.from_pretrained(export)
    corpus = Corpus(trained / "run/data")
    assert model.config.vocab_size == 448
    assert tokenizer.mask_token_id == corpus.tokenizer.mask_id
    facts = json.loads((export / "textmill.json").read_text())
    assert facts["tokenizer"] == corpus.tokenizer.fingerprint
    assert facts["data"] == corpus.fingerprint
    manifest = json.loads((trained / "run/pretrain/manifest.json").read_text())
    assert facts["decontamination"] == manifest["decontamination"] == {}  # no set was looked for
    ids = torch.tensor([tokenizer("the moss grows in the shade")["input_ids"]])
    assert torch.isfinite(model(input_ids=ids).logits).all()
    # the same weights under packed attention give the same hidden states
    packed = AutoModelForMaskedLM.from_pretrained(export, attn_implementation=attention.NAME).eval()
    expected = model.base_model(input_ids=ids)[0]
    found = packed.base_model(input_ids=ids, segments=segments_of(np.array([ids.shape[1]])))[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_budget_of_wall_clock_ends_the_run_and_shapes_its_rate(
    prepared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "workplace"
    shutil.copytree(prepared, folder)
    minutes = 0.05
    done = start(
        folder, "train.total_tokens=1_000_000_000", f"train.budget_minutes={minutes}",
        "train.evaluate_every_steps=100_000", "checkpoint.interval_steps=100_000",
    )  # fmt: skip
    assert done.exit_codes == [0], done.text
    manifest = json.loads((folder / "run/pretrain/manifest.json").read_text())
    assert 60 * minutes <= manifest["position"]["seconds"] < 60 * minutes + 30
    assert 0 < manifest["position"]["step"] < 1_000_000_000 / 1024
    rows = (folder / "run/pretrain/metrics.jsonl").read_text().splitlines()
    rates = [row["optim/learning_rate"] for row in map(json.loads, rows[1:])]
    assert max(rates) == pytest.approx(3e-3)
    assert rates[-1] < 1.5e-3  # the decay belongs to the last fifth of the time


def test_a_continued_model_has_seen_both_corpora(tmp_path: Path) -> None:
    counts = {"examples_found": 2, "examples_left": 2, "documents": 2, "documents_dropped": 0}
    entry = {"examples": 9, **counts}
    corpus = SimpleNamespace(manifest={"decontamination": {"ner": entry}})

    def known(checkpoint: str | None) -> object:
        return decontamination_of(SimpleNamespace(checkpoint=checkpoint), corpus)

    assert known(None) == {"ner": entry}
    assert known("somebody/model") is None
    (tmp_path / "textmill.json").write_text(json.dumps({"decontamination": {"ner": entry}}))
    assert known(str(tmp_path)) == {
        "ner": {
            "examples": 9, "examples_found": 4, "examples_left": 4, "documents": 4,
            "documents_dropped": 0,
        }
    }  # fmt: skip
    (tmp_path / "textmill.json").write_text("{}")
    assert known(str(tmp_path)) is None


def test_metrics_name_each_domain_and_start_near_ln_of_the_vocabulary(trained: Path) -> None:
    lines = (trained / "run/pretrain/metrics.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert first["step"] == 0
    assert first["loss/valid"] == pytest.approx(math.log(448), abs=0.5)
    for tag in (
        "loss_by_domain/general",
        "eval/bits_per_byte",
        "eval/accuracy",
        "loss/valid_macro",
    ):
        assert tag in last
    # bits per byte is the loss in bits times targets per byte: the bytes of a token are below 10
    bits = last["loss/valid"] / math.log(2)
    assert bits / 10 < last["eval/bits_per_byte"] < bits


def test_run_directory_explains_itself(trained: Path) -> None:
    record = json.loads((trained / "run/pretrain/run.json").read_text())["starts"][0]
    assert record["command"][1:3] == ["recipe.toml", "train.total_tokens=4096"]
    assert record["versions"]["torch"] == torch.__version__
    assert 'precision = "fp32"' in (trained / "run/pretrain/recipe.toml").read_text()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_export_is_continued_on_the_same_shards(
    precision: str, trained: Path, workplace: Path
) -> None:
    """The export of one run is the start of another: its loss begins where the first one ended."""
    recipe = workplace / "recipe.toml"
    text = recipe.read_text()
    shape = text[text.index("[model]") : text.index("[train]")]
    checkpoint = trained / "run/pretrain/export"
    recipe.write_text(text.replace(shape, f'[model]\ncheckpoint = "{checkpoint}"\n'))
    done = start(workplace, f'engine.precision="{precision}"')
    assert done.exit_codes == [0], done.text
    ended, began = (
        json.loads((folder / "run/pretrain/metrics.jsonl").read_text().splitlines()[place])
        for folder, place in ((trained, -1), (workplace, 0))
    )
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    assert began["loss/valid"] == pytest.approx(ended["loss/valid"], abs=tolerance)


def refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, str]:
    """Exit code and message of a start that must fail before the first step."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "to be removed")
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["pretrain", "recipe.toml", *more])
    code = command.main()
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    assert not (folder / "run/pretrain/export").exists()
    assert not (folder / "run/pretrain/checkpoints").exists()
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "code", "told"),
    [
        ("train.micro_batch_size=5", 2, "multiple of the micro batch size x world size = 5 x 1"),
        ("model.hidden_sise=32", 2, "did you mean `hidden_size`?"),
        ('engine.ds_config="zero4"', 2, "'zero4' is neither a path"),
        ("model.num_heads=3", 2, "hidden_size (32) must be a multiple of num_heads (3)"),
        ("model.max_positions=32", 2, "below the samples' length (64)"),
        ("packing.sequence_length=128", 2, "pretraining cannot start: waits for data_prep"),
    ],
)
def test_bad_recipes_are_refused_with_one_clear_error(
    override: str,
    code: int,
    told: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, message = refused(workplace, monkeypatch, capsys, override)
    assert (found, told in message) == (code, True), message
    assert "Traceback" not in message


def test_damaged_shard_is_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = workplace / "run/data/sources/plants/train-00000.tokens.npy"
    content = bytearray(shard.read_bytes())
    content[300] ^= 1
    shard.write_bytes(bytes(content))
    code, message = refused(workplace, monkeypatch, capsys)
    assert code == 3, message
    assert "train-00000.tokens.npy: block 0" in message


def test_another_tokenizer_than_that_of_the_shards_is_refused(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workplace / "run/data/tokenizer/tokenizer.json"
    path.write_text(path.read_text().replace("▁moss", "▁miss"))
    code, message = refused(workplace, monkeypatch, capsys)
    assert code == 3, message
    assert "is not the tokenizer that wrote the shards" in message


def test_a_checkpoint_with_another_tokenizer_is_refused(
    trained: Path,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = workplace / "other"
    shutil.copytree(trained / "run/pretrain/export", other)
    path = other / "tokenizer.json"
    path.write_text(path.read_text().replace("▁moss", "▁miss"))
    recipe = workplace / "recipe.toml"
    text = recipe.read_text()
    shape = text[text.index("[model]") : text.index("[train]")]
    recipe.write_text(text.replace(shape, '[model]\ncheckpoint = "other"\n'))
    code, message = refused(workplace, monkeypatch, capsys)
    assert code == 3, message
    assert "made with another tokenizer than other (different: model)" in message


def test_an_unreachable_checkpoint_is_one_clear_error(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = workplace / "recipe.toml"
    text = recipe.read_text()
    shape = text[text.index("[model]") : text.index("[train]")]
    recipe.write_text(text.replace(shape, '[model]\ncheckpoint = "nobody/nothing"\n'))
    code, message = refused(workplace, monkeypatch, capsys)
    assert code == 3, message
    assert "'nobody/nothing' is neither a folder with a model nor a hub id" in message


@pytest.mark.parametrize(
    ("max_skips", "told"),
    [
        (2, "2 updates in a row were refused up to step 3"),
        (8, "the last evaluation gives no number"),
    ],
)
def test_weights_that_are_broken_end_with_exit_code_4(
    max_skips: int, told: str, workplace: Path
) -> None:
    """By the first update, whose gradient is sound: what follows is refused, to the end or not."""
    overrides = ("optimizer.learning_rate=1e30", f"guard.max_skips_in_a_row={max_skips}")
    done = start(workplace, *overrides, 'engine.precision="fp32"')
    assert done.exit_codes == [4], done.text
    assert told in done.text
    assert not (workplace / "run/pretrain/export").exists()


def test_dry_run_touches_nothing(workplace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pretrain", "recipe.toml", "--dry-run"],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "12 of 1,024 tokens" in done.stdout
    assert not (workplace / "run/pretrain").exists()
