"""`python -m data_prep COMMAND`: what each prints, and with which exit code it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep import card as cards
from data_prep.__main__ import COMMANDS, main
from data_prep.commands.inspect import printable
from data_prep.encoding import document_hash
from data_prep.shards import Corpus
from tests.data_prep.conftest import ROOT, content, write_corpus_recipe

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose corpus is there; tests do not change it."""
    path = write_corpus_recipe(tmp_path_factory.mktemp("commands"))
    assert main(["build", str(path), "launch.workers=1"]) == 0
    return path


@pytest.fixture(scope="module")
def folder(recipe: Path) -> Path:
    return recipe.parent / "out" / "data"


def test_overview_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom data_prep.__main__ import main\ncode = main(['--help'])\n"
        "print(code, sorted({'numpy', 'pyarrow', 'pydantic', 'matplotlib', 'rich', 'argparse'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.endswith("\n0 []\n"), done.stdout + done.stderr
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_every_command_has_help(capsys: Captured) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert f"usage: python -m data_prep {name}" in capsys.readouterr().out


def test_no_argument_is_an_error(capsys: Captured) -> None:
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().err


def test_build_is_the_command_of_a_recipe_alone(recipe: Path, capsys: Captured) -> None:
    assert main([str(recipe), "--dry-run", "packing.sequence_length=128"]) == 0
    assert "data_prep: to do" in capsys.readouterr().out
    assert main(["build", str(recipe)]) == 0
    assert "up to date, nothing to do" in capsys.readouterr().out


def test_commands_take_the_recipe_or_the_folder(
    recipe: Path, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["verify", str(recipe)]) == 0
    by_recipe = capsys.readouterr().out
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out == by_recipe
    assert main(["verify", str(recipe), f'output="{tmp_path}"']) == 3
    assert "holds no finished corpus" in capsys.readouterr().err
    assert main(["verify", str(folder), "seed=1"]) == 2
    assert "can change nothing in it" in capsys.readouterr().err


def test_stats_add_up(folder: Path, capsys: Captured) -> None:
    assert main(["stats", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    first = found["sources"]["first"]
    assert (first["read"], first["kept"], first["dropped"]) == (307, 300, {"duplicate": 7})
    for source in found["sources"].values():
        gone = sum(source["dropped"].values()) + sum(source["quarantined"].values())
        assert source["read"] + source["augmented"] == source["kept"] + gone
        assert source["lengths"]["5"] <= source["lengths"]["50"] <= source["lengths"]["max"]
    assert found["duplicates"]["exact"]["second"]["first"] == 5
    assert sum(domain["token_share"] for domain in found["domains"].values()) == pytest.approx(1)


def test_stats_as_tables(folder: Path, capsys: Captured) -> None:
    assert main(["stats", str(folder)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.replace("│", " ").splitlines()]
    assert ["first", "dropped", "duplicate", "7", "2.28%"] in rows
    assert ["exact", "second", "first", "5"] in rows
    assert ["evaluation", "sets"] not in rows  # none was named


def test_inspect_shows_segments_and_documents(folder: Path, capsys: Captured) -> None:
    assert main(["inspect", str(folder), "--source", "first", "--sample", "2"]) == 0
    shown = capsys.readouterr().out
    rows = Corpus(folder).reader("first", "train").gather(np.array([2]))
    assert f"first/train sample 2: {rows.counts[0]} segments, {rows.lengths.sum()} tokens" in shown
    for document in rows.documents:
        assert f"document {document:016x}" in shown
    assert "[CLS]" not in shown
    known = {document_hash("first", f"d{number}") for number in range(307)}
    assert {int(document) for document in rows.documents} <= known


def test_inspect_token_by_token(folder: Path, capsys: Captured) -> None:
    assert main(["inspect", str(folder), "--split", "valid", "--num", "1", "--tokens"]) == 0
    segments = [line for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert segments
    assert all(line.startswith("[CLS]|") and line.endswith("|[SEP]") for line in segments)


def test_inspect_draws_by_seed(folder: Path, capsys: Captured) -> None:
    def shown(seed: int) -> str:
        assert main(["inspect", str(folder), "--seed", str(seed)]) == 0
        return capsys.readouterr().out

    assert shown(1) == shown(1) != shown(2)


def test_inspect_refuses_what_is_not_there(folder: Path, capsys: Captured) -> None:
    for arguments, words in (
        (["--sample", "1"], "--sample needs --source; sources are: first, second"),
        (["--source", "first", "--sample", "99999"], "has train samples 0 to"),
        (["--source", "third"], "no source 'third'"),
    ):
        assert main(["inspect", str(folder), *arguments]) == 3
        assert words in capsys.readouterr().err


def test_text_that_moves_the_cursor_is_shown_as_escapes() -> None:
    assert printable("a\tb\n\x1b[2J\x07 中\u202e", "\n\t") == "a\tb\n\\x1b[2J\\x07 中\\u202e"


def test_output_to_a_terminal_without_unicode(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "data_prep", "inspect", str(folder), "--num", "20"],
        cwd=ROOT, capture_output=True, timeout=60, env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\\u" in done.stdout


def test_train_tokenizer_is_the_one_of_the_build(
    recipe: Path, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    other = [f'output="{tmp_path}/out"', "launch.workers=1"]
    assert main(["train-tokenizer", str(recipe), *other]) == 0
    place = Path(capsys.readouterr().out.splitlines()[-1].removeprefix("tokenizer: "))
    assert content(place) == content(folder / "tokenizer")
    assert not (tmp_path / "out" / "data").exists()
    assert main(["build", str(recipe), *other]) == 0
    assert content(tmp_path / "out" / "data") == content(folder)
    assert main(["train-tokenizer", str(recipe), *other]) == 0
    assert "of the finished corpus" in capsys.readouterr().out


def test_repack_is_what_a_build_would_have_made(
    recipe: Path, folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    other = tmp_path / "repacked"
    assert main(["repack", str(folder), str(other), "packing.sequence_length=128"]) == 0
    built = [f'output="{tmp_path}/out"', "launch.workers=1", "packing.sequence_length=128"]
    assert main([str(recipe), *built]) == 0
    assert content(other / "sources") == content(tmp_path / "out" / "data" / "sources")
    assert cards.load(other).repacked_from == Corpus(folder).fingerprint
    assert main(["verify", str(other)]) == 0
    (other / "sources/first/train-00000.tokens.npy").unlink()
    capsys.readouterr()
    assert main(["verify", str(other)]) == 3
    error = capsys.readouterr().err
    assert f"it was repacked from the corpus {Corpus(folder).fingerprint}: remove {other}" in error
    assert main(["repair", str(other), "first/train-00000"]) == 3


def test_repack_refuses_what_shards_cannot_tell(
    folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    for override, words in (
        ("packing.valid_share=0.5", "needs the raw text"),
        ("seed=3", "keys of [packing] only"),
        ("packing.sequence_length='long'", "packing.sequence_length"),
        ("packing.sequence=5", "did you mean `sequence_length`?"),
    ):
        assert main(["repack", str(folder), str(tmp_path / "other"), override]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
