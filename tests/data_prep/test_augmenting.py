"""Which documents get copies: by share and source, the same whoever asks and in what order."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.augmenting import Augment, augmented, inputs
from data_prep.documents import Document
from runtime.errors import DataError

TEXT = "The first sentence is here. The second follows. A third ends it."


def table(*steps: dict[str, object]) -> Augment:
    return Augment.model_validate_json(json.dumps({"steps": steps}))


def documents(count: int, source: str = "s") -> list[Document]:
    return [Document(f"d{i}", TEXT, source, "domain") for i in range(count)]


def test_the_share_is_drawn_by_document_and_seed() -> None:
    steps = table({"step": "flip", "share": 0.25})
    chosen = [[d.id for d in documents(2000) if list(augmented(d, steps, s))] for s in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert 400 < len(chosen[0]) < 600
    backwards = [d.id for d in reversed(documents(2000)) if list(augmented(d, steps, 1))]
    assert backwards == chosen[0][::-1]


def test_sources_that_are_not_named_stay_alone() -> None:
    steps = table({"step": "flip", "sources": ["a"]}, {"step": "flip", "unit": "word"})
    by_source = {
        source: [copy.id for copy in augmented(documents(1, source)[0], steps, 0)]
        for source in ("a", "b")
    }
    assert by_source == {"a": ["d0#flip", "d0#flip.1"], "b": ["d0#flip.1"]}


def test_steps_draw_apart_and_take_the_document_as_read() -> None:
    steps = table({"step": "noise", "rate": 0.2}, {"step": "noise", "rate": 0.2}, {"step": "flip"})
    first, second, third = augmented(documents(1)[0], steps, 0)
    assert first.text != second.text
    assert third.text == "A third ends it. The second follows. The first sentence is here."


def test_nothing_is_made_without_steps() -> None:
    assert list(augmented(documents(1)[0], Augment(), 0)) == []
    assert inputs(Augment()) == []


def test_files_of_steps_are_inputs(tmp_path: Path) -> None:
    lexicon = tmp_path / "words.tsv"
    steps = table({"step": "flip"}, {"step": "synonyms", "lexicon": str(lexicon)})
    with pytest.raises(DataError, match=r"augment step synonyms: .*No such file"):
        inputs(steps)
    lexicon.write_text("a\tb\n")
    before = inputs(steps)
    assert [Path(file.path).name for file in before] == ["words.tsv"]
    lexicon.write_text("a\tb,c\n")
    assert inputs(steps) != before


def test_steps_without_a_model_import_no_torch() -> None:
    code = (
        "import sys\nfrom data_prep.augment import back_translation, synthesis, synonyms\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
