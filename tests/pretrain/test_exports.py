"""Exports at shares of the budget: once each, and the same after a kill."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pretrain.export import Exporter
from pretrain.exports import Exports
from pretrain.hooks import Done
from runtime.checkpoint import Position


class Written:
    """Stands for an exporter: a folder with its facts."""

    def write(self, folder: Path, facts: Mapping[str, Any]) -> None:
        folder.mkdir()
        (folder / "facts").write_text(repr(dict(facts)))


def hook(folder: Path, *shares: float) -> Exports:
    return Exports(shares, cast(Exporter, Written()), folder)


def train(exports: Exports, first: int, last: int, total: int = 10) -> None:
    for step in range(first, last + 1):
        assert exports.after_step(Done(Position(step), step / total, step == total, None)) == {}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "exports").iterdir())


def test_each_share_is_exported_at_the_first_step_that_reaches_it(tmp_path: Path) -> None:
    exports = hook(tmp_path, 0.75, 0.2)
    train(exports, 1, 10)
    assert names(tmp_path) == ["step-00000002", "step-00000008"]
    facts = (tmp_path / "exports/step-00000008/facts").read_text()
    assert facts == "{'step': 8, 'share': 0.75}"


def test_two_shares_within_one_step_are_one_export(tmp_path: Path) -> None:
    exports = hook(tmp_path, 0.31, 0.35)
    train(exports, 1, 10)
    assert names(tmp_path) == ["step-00000004"]
    assert exports.state() == {"0.31": 4, "0.35": 4}


def test_a_kill_after_the_export_writes_it_again_at_the_same_step(tmp_path: Path) -> None:
    """The checkpoint of step 4 knows nothing of the export of step 5."""
    before = hook(tmp_path, 0.2, 0.5)
    train(before, 1, 4)
    state = before.state()
    train(before, 5, 6)
    (tmp_path / "exports/step-00000005/facts").write_text("of the run that was killed")
    resumed = hook(tmp_path, 0.2, 0.5)
    resumed.restore(state)
    train(resumed, 5, 10)
    assert names(tmp_path) == ["step-00000002", "step-00000005"]
    assert "0.5" in (tmp_path / "exports/step-00000005/facts").read_text()


def test_a_resume_after_the_checkpoint_does_not_repeat_an_export(tmp_path: Path) -> None:
    before = hook(tmp_path, 0.2)
    train(before, 1, 3)
    resumed = hook(tmp_path, 0.2)
    resumed.restore(before.state())
    train(resumed, 4, 10)  # a second write into the folder would fail
    assert names(tmp_path) == ["step-00000002"]


def test_an_export_of_a_run_that_was_continued_otherwise_goes(tmp_path: Path) -> None:
    """By wall clock a share may be reached at another step after a kill."""
    killed = hook(tmp_path, 0.5)
    train(killed, 5, 5)
    resumed = hook(tmp_path, 0.5)
    train(resumed, 1, 10, total=14)
    assert names(tmp_path) == ["step-00000007"]
