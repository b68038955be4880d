"""What is said beside a score about the test rows in the pretraining text."""

from pathlib import Path

from finetune.reports import report as finetune_report
from finetune.reports import summary
from finetune.reports.contamination import UNKNOWN, in_words, of
from tests.finetune import made_up

CLEAN = {
    "examples": 1287, "examples_found": 0, "examples_left": 0, "documents": 0,
    "documents_dropped": 0,
}  # fmt: skip
REMOVED = CLEAN | {"examples_found": 12, "documents": 9, "documents_dropped": 9}
KEPT = CLEAN | {"examples_found": 12, "examples_left": 12, "documents": 9}


def test_the_count_is_said_in_words() -> None:
    text = "of 1,287 test examples in the pretraining text"
    assert in_words("test", CLEAN) == f"0 {text}"
    assert in_words("test", KEPT) == f"12 {text}"
    removed = f"0 {text}; 12 found and removed with 9 documents"
    assert in_words("test", REMOVED) == removed
    assert in_words("test", None) == UNKNOWN


def test_splits_are_found_by_the_name_of_the_set() -> None:
    splits = {"train": 0, "valid": 0, "test": 0}
    assert of("people", splits, {"people": CLEAN, "other": KEPT}) == {
        "valid": {"words": UNKNOWN, "facts": None},
        "test": {"words": in_words("test", CLEAN), "facts": CLEAN},
    }
    del splits["test"]
    assert of("people", splits, {"people": CLEAN, "people.valid": KEPT}) == {
        "valid": {"words": in_words("valid", KEPT), "facts": KEPT}
    }


def test_an_encoder_without_a_record_is_unknown() -> None:
    for record in (None, {}):
        assert of("people", {"test"}, record) == {"test": {"words": UNKNOWN, "facts": None}}


def test_the_closing_lines_have_it_beside_the_score() -> None:
    made = made_up.entities()
    made["task"].encoder.decontamination = {"chemistry": CLEAN}
    report = finetune_report.of(made["task"], made["runs"], None, None, None)
    assert "  test: (0 of 1,287 test examples in the pretraining text)" in summary.lines(
        report, Path("page")
    )
