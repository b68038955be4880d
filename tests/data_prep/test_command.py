"""Bad input at the command line: one clear error, the right exit code, nothing half written."""

import errno
import gzip
import json
import os
import random
from pathlib import Path

import pytest

from data_prep import sharding
from data_prep.__main__ import main
from data_prep.build import work_of
from data_prep.config import Recipe
from data_prep.plan import plan
from runtime import recipe as recipes
from runtime import run_lock
from runtime.errors import DataError, RecipeError
from tests.data_prep.conftest import command, texts, write_jsonl


def recipe_for(folder: Path, source: str, more: str = "") -> Path:
    path = folder / "recipe.toml"
    path.write_text(
        f'name = "bad"\noutput = "{folder}/out"\n[launch]\nworkers = 1\n'
        f"[sources.web]\n{source}\n[tokenizer]\nvocab_size = 512\n"
        f"[packing]\nsequence_length = 64\n{more}"
    )
    return path


def jsonl(path: Path) -> str:
    return f'reader = "jsonl"\npath = "{path}"'


def refused(recipe: Path, code: int, *words: str) -> None:
    result = command(recipe)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("textmill:")]
    rest = result.stderr[result.stderr.index(line) :]
    assert all(word in rest for word in words), rest
    assert not (recipe.parent / "out" / "data").exists()


def test_missing_source(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, jsonl(tmp_path / "none.jsonl"))
    refused(recipe, 3, "source web: no file at", "none.jsonl")
    assert not (tmp_path / "out").exists()


def test_text_field_absent(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "body": "x"}\n' * 20)
    recipe = recipe_for(tmp_path, jsonl(tmp_path / "a.jsonl"))
    refused(recipe, 3, "has the field 'text'", "fields: id, body", "set `text`")


def test_empty_source(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    refused(recipe_for(tmp_path, jsonl(tmp_path / "a.jsonl")), 3, "holds no document")


def test_nothing_left_after_cleaning(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["", "  "])
    recipe = recipe_for(tmp_path, jsonl(tmp_path / "a.jsonl"))
    refused(recipe, 3, "no document is left of 2 read", "shorter than 1 characters: 2")


def test_hub_unreachable(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, 'reader = "hub"\npath = "nobody/nothing"')
    refused(recipe, 3, "cannot stream data set 'nobody/nothing'", "HF_HUB_OFFLINE")


def test_unknown_reader_and_keys(tmp_path: Path) -> None:
    refused(recipe_for(tmp_path, 'reader = "jsnl"\npath = "x"'), 2, "did you mean 'jsonl'?")
    recipe = recipe_for(tmp_path, jsonl(tmp_path / "a.jsonl") + "\nmax_document = 1")
    refused(recipe, 2, "sources.web.max_document (line 8)", "did you mean `max_documents`?")


def test_too_much_damage_stops(tmp_path: Path) -> None:
    rows = [json.dumps({"text": text}) for text in texts(100, seed=1)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows + ["{broken"] * 20))
    recipe = recipe_for(tmp_path, jsonl(tmp_path / "a.jsonl"))
    refused(recipe, 3, "20 of 120 documents are damaged (corrupt JSON: 20)", "max_quarantined")


def test_damage_below_the_threshold_is_counted(tmp_path: Path) -> None:
    rows = [json.dumps({"text": text}).encode() for text in texts(200, seed=1)]
    rows[5:5] = [b"{broken", b'{"text": "\xff"}', b'{"text": "a\\u0000"}', b'{"other": 1}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(rows))
    packed = gzip.compress("\n".join(
        json.dumps({"text": f"{text} {random.Random(i).random()}"})
        for i, text in enumerate(texts(500, seed=2))
    ).encode())  # fmt: skip
    (tmp_path / "b.jsonl.gz").write_bytes(packed[: len(packed) * 3 // 4])
    recipe = recipe_for(
        tmp_path, f'reader = "jsonl"\npath = ["{tmp_path}/a.jsonl", "{tmp_path}/b.jsonl.gz"]'
    )
    result = command(recipe)
    assert result.returncode == 0, result.stderr
    manifest = json.loads((tmp_path / "out" / "data" / "manifest.json").read_text())
    documents = manifest["sources"]["web"]["documents"]
    assert documents["quarantined"] == {
        "contains NUL": 1, "corrupt JSON": 1, "damaged file": 1, "not valid UTF-8": 1,
        "text field missing": 1,
    }  # fmt: skip
    assert documents["kept"] > 400
    card = json.loads((tmp_path / "out" / "data" / "card.json").read_text())
    assert card["sources"][0]["samples"]["corrupt JSON"][0]["sample"] == "{broken"


def test_dry_run_touches_nothing(corpus_recipe: Path) -> None:
    result = command(corpus_recipe, "--dry-run")
    assert result.returncode == 0
    assert "source first: jsonl, domain one, 1 files" in result.stdout
    assert not (corpus_recipe.parent / "out").exists()


def test_full_disk(corpus_recipe: Path, monkeypatch: pytest.MonkeyPatch,
                   capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/full/disk")

    monkeypatch.setattr(sharding.composing, "write", full)
    assert main([str(corpus_recipe), "launch.workers=1"]) == 7
    assert "No space left on device: /full/disk" in capsys.readouterr().err
    assert not (corpus_recipe.parent / "out" / "data").exists()
    monkeypatch.undo()
    assert main([str(corpus_recipe), "launch.workers=1"]) == 0


def test_two_runs_at_once(corpus_recipe: Path) -> None:
    planned = plan(recipes.load(corpus_recipe, (), Recipe))
    with work_of(planned).open(planned.inputs):
        result = command(corpus_recipe)
    assert result.returncode == 3
    assert "another run is preparing" in result.stderr
    with run_lock.owned(run_lock.path_of(planned.folder.parent, planned.stage), "this"):
        result = command(corpus_recipe)
    assert result.returncode == 8
    assert f"data_prep is in use by process {os.getpid()} of " in result.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('[mixture]\nstrategy = "fixed"\nweights = {wiki = 1.0}', "not in [sources]"),
        ("[mixture]\ntemperature = 0.5", 'needs strategy = "temperature"'),
        ("drop_shorter_than = 63", "must be at least drop_shorter_than"),
        ('[[clean.steps]]\nstep = "unicod"', "did you mean 'unicode'?"),
    ],
)
def test_tables_that_cannot_work(tmp_path: Path, more: str, words: str) -> None:
    recipe = recipe_for(tmp_path, jsonl(tmp_path / "a.jsonl"), more)
    with pytest.raises(RecipeError) as caught:
        recipes.load(recipe, (), Recipe)
    assert words in str(caught.value)


def test_source_names_are_folder_names(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, jsonl(tmp_path / "a.jsonl"))
    recipe.write_text(recipe.read_text().replace("[sources.web]", '[sources."../web"]'))
    with pytest.raises(RecipeError, match="should match pattern"):
        recipes.load(recipe, (), Recipe)


def test_plan_follows_inputs_and_nothing_else(corpus_recipe: Path) -> None:
    def inputs(*overrides: str) -> str:
        return plan(recipes.load(corpus_recipe, overrides, Recipe)).inputs

    same = inputs()
    assert inputs("launch.workers=3", 'mixture.strategy="temperature"', "seed=5") == same
    assert inputs('output="elsewhere"') == same
    for change in ("packing.valid_share=0.1", "dedup.exact=false", "tokenizer.vocab_size=576",
                   "sources.first.max_documents=5", "clean.steps=[]"):  # fmt: skip
        assert inputs(change) != same, change
    path = corpus_recipe.parent / "first.jsonl"
    path.write_text(path.read_text() + '{"text": "more"}\n')
    assert inputs() != same


def test_plan_of_a_missing_tokenizer(corpus_recipe: Path) -> None:
    recipe = corpus_recipe.read_text().replace("vocab_size = 512", 'path = "no/tokenizer"')
    corpus_recipe.write_text(recipe)
    with pytest.raises(DataError, match=r"tokenizer\.path: no/tokenizer"):
        plan(recipes.load(corpus_recipe, (), Recipe))
