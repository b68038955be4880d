"""Stages that lose a rank and are started again."""

from pathlib import Path

import pytest

from launch import journal, pipeline
from launch.hosts import nodes
from launch.hosts.layout import Layout
from launch.pipeline import StageFailed
from launch.stage_process import Outcome
from runtime.command import Arguments
from runtime.config import Launch, Recipe
from runtime.errors import LostRankError, StopRequested, TextmillError

LOST, KILLED = Outcome(5, None, False), Outcome(-9, "SIGKILL", False)
STOPPED, WRONG = Outcome(75, None, True), Outcome(4, None, False)


@pytest.mark.parametrize(
    ("ends", "starts", "error"),
    [
        ([LOST, KILLED, WRONG], 3, StageFailed),
        ([KILLED, LOST, KILLED, LOST], 3, LostRankError),  # one loss too many
        ([WRONG], 1, StageFailed),  # it would do so again
        ([LOST, STOPPED], 2, StopRequested),
        ([Outcome(-15, "SIGTERM", True)], 1, StopRequested),  # asked for: never started again
        ([Outcome(75, None, False)], 1, StopRequested),
    ],
)
def test_a_lost_rank_is_started_again_as_often_as_the_recipe_says(
    ends: list[Outcome],
    starts: int,
    error: type[TextmillError],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real ranks, lost on a host: tests/launch/hosts/test_training.py."""
    left = list(ends)
    monkeypatch.setattr(pipeline, "run_once", lambda *_: left.pop(0))
    recipe = Recipe(name="tiny", output=tmp_path, launch=Launch(restarts=2))
    notes = journal.begin(Path("tiny.toml"), [], tmp_path)
    arguments = Arguments(Path("tiny.toml"), (), False)
    with pytest.raises(error):
        pipeline.run_stage("pretrain", recipe, arguments, notes, Layout(nodes.here(2)))
    assert len(ends) - len(left) == starts
    found = journal.read(tmp_path)
    assert found is not None
    assert found.stages["pretrain"].restarts == starts - 1
    shown = capsys.readouterr().out
    for number in range(1, starts):
        assert f"starting again from its last checkpoint, restart {number} of 2" in shown
    assert shown.count("starting again") == starts - 1
