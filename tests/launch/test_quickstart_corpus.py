"""The quickstart's corpus on a tiny environment: same bytes every time, and nothing leaks."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "recipes"))

import quickstart_corpus
import quickstart_text
from quickstart_corpus import Limits
from quickstart_text import Places

from runtime.errors import DataError

NOUNS = ("tensor", "matrix", "graph", "frame", "axis", "label", "index", "plot")
LIMITS = Limits(mentions=(40, 20, 20), order=(20, 10, 10))


def prose(seed: int) -> str:
    """Twenty-five words that no other seed gives in this order."""
    return " ".join(f"{NOUNS[(seed * 7 + i * i) % 8]}{seed}x{i}" for i in range(25))


def module(library: str, number: int) -> str:
    seed = hash_of(library, number)
    return (
        f'"""Module: {prose(seed)}."""\n'
        f"import {library}\n\n"
        f"def work_{library}_{number}(x):\n"
        f'    """Returns the {prose(seed + 1)}.\n\n'
        f"    See :func:`~{library}.sort_{number}` and :class:`Frame{number}` "
        f'for the {prose(seed + 2)}.\n    """\n'
        f'    text = """A long string {prose(seed + 3)} that documents nothing."""\n'
        f"    return x + {number}  # a comment stays\n"
    )


def hash_of(library: str, number: int) -> int:
    return quickstart_corpus.LIBRARIES.index(library) * 10_000 + number * 10


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A Python installation of three libraries with sixty files each, and licences."""
    found = Places(tmp_path / "lib", tmp_path / "lib" / "site-packages", tmp_path / "absent")
    for library, folder in (
        ("python", found.standard_library),
        ("pandas", found.packages / "pandas"),
        ("networkx", found.packages / "networkx"),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(60):
            (folder / f"m{number}.py").write_text(module(library, number))
    (found.standard_library / "pydoc_data").mkdir()
    (found.standard_library / "pydoc_data" / "topics.py").write_text(
        "topics = {'if': 'The \"if\" statement.', 'for': 'The ``for`` statement.'}\n"
    )
    licence = found.packages / "pandas-3.0.dist-info"
    licence.mkdir()
    (licence / "LICENSE").write_text("Permission is granted to everyone.")
    (licence / "METADATA").write_text("Metadata-Version: 2.1\nName: pandas\nVersion: 3.0\n")
    return found


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.json*"))
    }


def test_same_bytes_every_time(tmp_path: Path, places: Places) -> None:
    for name in ("a", "b"):
        quickstart_corpus.replace_folder(tmp_path / name, places, LIMITS)
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert len(first) == 4 + 6 + 1
    assert not list(tmp_path.glob(".*"))


def test_every_part_has_text(tmp_path: Path, places: Places) -> None:
    quickstart_corpus.replace_folder(tmp_path / "c", places, LIMITS)
    corpus = tmp_path / "c" / "corpus"
    assert [row["id"] for row in rows(corpus / "topics.jsonl")] == ["topics/if", "topics/for"]
    assert [row["text"] for row in rows(corpus / "licences.jsonl")] == [
        "Permission is granted to everyone."
    ]
    code = rows(corpus / "sources.jsonl")[0]["text"]
    assert "# a comment stays" in code
    assert "Returns the" not in code
    assert "documents nothing" not in code
    for task in ("mentions", "order"):
        for split in ("train", "dev", "test"):
            assert rows(tmp_path / "c" / "tasks" / task / f"{split}.jsonl"), (task, split)


def test_nothing_of_a_held_out_file_is_trained_on(tmp_path: Path, places: Places) -> None:
    quickstart_corpus.replace_folder(tmp_path / "c", places, LIMITS)
    folder = tmp_path / "c"
    trained = [row for path in (folder / "corpus").glob("*.jsonl") for row in rows(path)]
    trained += [row for path in folder.glob("tasks/*/train.jsonl") for row in rows(path)]
    text = "\n".join(row["text"] for row in trained)
    held_out = 0
    for library in ("python", "pandas", "networkx"):
        for number in range(60):
            if quickstart_text.split_of(f"{library}/m{number}.py") != "train":
                held_out += 1
                seed = hash_of(library, number)
                for part in range(4):
                    assert prose(seed + part)[:60] not in text
                assert f"work_{library}_{number}(x)" not in text
    assert held_out > 20


def test_what_a_training_file_repeats_is_left_out(tmp_path: Path, places: Places) -> None:
    name = next(
        f"m{n}.py"
        for n in range(60)
        if quickstart_text.split_of(f"pandas/m{n}.py") == "test"
    )  # fmt: skip
    copy = (places.packages / "pandas" / name).read_text()
    training = next(
        f"copy{n}.py"
        for n in range(60)
        if quickstart_text.split_of(f"pandas/copy{n}.py") == "train"
    )
    (places.packages / "pandas" / training).write_text(copy)
    quickstart_corpus.replace_folder(tmp_path / "c", places, LIMITS)
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert manifest["training_docstrings_repeated_in_held_out_files"] == 2
    text = (tmp_path / "c" / "corpus" / "docstrings.jsonl").read_text()
    number = int(name.removeprefix("m").removesuffix(".py"))
    assert prose(hash_of("pandas", number))[:60] not in text


def test_rows_that_overlap_are_dropped() -> None:
    shared = " ".join(f"word{i}" for i in range(10))
    rows_ = [{"text": f"before {shared} after"}, {"text": " ".join(f"other{i}" for i in range(12))}]
    found = quickstart_corpus.shared_runs(rows_, [f"x {shared} y"])
    assert found == {shared}


def test_the_check_finds_a_leak(tmp_path: Path, places: Places) -> None:
    quickstart_corpus.replace_folder(tmp_path / "c", places, LIMITS)
    leak = rows(tmp_path / "c" / "tasks" / "order" / "test.jsonl")[0]
    with (tmp_path / "c" / "corpus" / "licences.jsonl").open("a") as file:
        file.write(json.dumps({"id": "licence", "text": leak["original"]}) + "\n")
    with pytest.raises(DataError, match="shares words with what is trained on"):
        quickstart_corpus.check_splits(tmp_path / "c")


def test_order_rows_keep_their_words_and_the_label_says_what_was_done(
    tmp_path: Path, places: Places
) -> None:
    quickstart_corpus.replace_folder(tmp_path / "c", places, LIMITS)
    for split in ("train", "dev", "test"):
        found = rows(tmp_path / "c" / "tasks" / "order" / f"{split}.jsonl")
        assert {row["label"] for row in found} == {"intact", "swapped"}
        for row in found:
            assert sorted(row["text"].split()) == sorted(row["original"].split())
            assert (row["text"] == row["original"]) == (row["label"] == "intact")


def test_a_short_docstring_gives_no_order_row() -> None:
    document = quickstart_text.Document("a.py#f:1", "Too short.", "python", "train")
    assert quickstart_text.order_row(document) is None


def test_roles_become_spans_of_the_text_without_markup() -> None:
    text, spans = quickstart_text.plain(
        "See :func:`~torch.nn.relu`, :py:class:`Frame`, :meth:`the sort <list.sort>`, "
        "``x = 1``, `y`, :exc:`!OSError` and :math:`a^2`."
    )
    assert text == "See relu, Frame, the sort, x = 1, y, OSError and a^2."
    assert [(text[start:end], label) for start, end, label in spans] == [
        ("relu", "FUNCTION"),
        ("Frame", "CLASS"),
        ("OSError", "EXCEPTION"),
    ]


def test_current_folder_is_left_alone(
    tmp_path: Path, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    quickstart_corpus.replace_folder(tmp_path / "c", places, LIMITS)
    before = (tmp_path / "c" / "manifest.json").stat().st_mtime_ns
    quickstart_corpus.replace_folder(tmp_path / "c", places, LIMITS)
    assert (tmp_path / "c" / "manifest.json").stat().st_mtime_ns == before
    assert "up to date" in capsys.readouterr().out


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, places: Places) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(DataError, match="holds no quickstart corpus"):
        quickstart_corpus.replace_folder(tmp_path / "mine", places, LIMITS)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "irreplaceable"


def test_a_broken_source_file_is_counted(tmp_path: Path, places: Places) -> None:
    (places.packages / "pandas" / "broken.py").write_text("def (:\n")
    quickstart_corpus.replace_folder(tmp_path / "c", places, LIMITS)
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert manifest["files_unreadable"] == 1
