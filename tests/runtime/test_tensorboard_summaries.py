"""What a real TensorBoard server answers over HTTP, under both of its loaders."""

import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image as pictures
from tensorboard import program
from tensorboard.util import tensor_util

from runtime import tensorboard_summaries as summaries
from runtime.tracking import Tracker

STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
TABLES = {"seed": 7, "train": {"total_tokens": 4096, "phases": [], "ramp_from": None},
          "engine": {"ds_config": "zero3", "compile": False}}  # fmt: skip


def png() -> bytes:
    """Three columns, two rows."""
    buffer = io.BytesIO()
    pictures.imsave(buffer, np.zeros((2, 3)), format="png")
    return buffer.getvalue()


def write(folder: Path, start: int, last: int, loss: float) -> None:
    """A start that did the steps after `start` up to `last`."""
    with Tracker(folder, start, total_steps=10, is_writer=True) as tracker:
        tracker.text("recipe", "# small", start)
        tracker.hyperparameters(TABLES)
        for step in range(start + 1, last + 1):
            tracker.log(step, {"loss/train": loss, "bits_per_byte_by_domain/law": loss / 2})
        tracker.image("confusion", png(), last)
        tracker.pr_curve("law", [True, False, True, False], [0.9, 0.2, 0.4, 0.6], last)
        if last == 10:
            tracker.finish()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed at step 8 (last checkpoint 5), went back at 9 to 3, and ended."""
    folder = tmp_path_factory.mktemp("logs") / "small"
    for start, last, loss in ((0, 8, 1.0), (5, 9, 2.0), (3, 10, 3.0)):
        write(folder / "pretrain", start, last, loss)
    return folder


Get = Callable[..., Any]


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast", "slow"])
def get(request: pytest.FixtureRequest, logs: Path) -> Get:
    """Ask a server in this process; the last step of the run is loaded."""
    server = program.TensorBoard()
    server.configure(
        argv=["tensorboard", "--logdir", str(logs), "--host", "127.0.0.1", "--port", "0",
              "--load_fast", request.param, "--reload_interval", "1"]
    )  # fmt: skip
    address = server.launch().rstrip("/")

    def ask(path: str, body: object = None, **query: str) -> Any:
        url = f"{address}/data/plugin/{path}?{urllib.parse.urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            content = answer.read()
        return content if path.endswith("individualImage") else json.loads(content)

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            found = ask("scalars/scalars", run="pretrain", tag="loss/train")
            if found[-1][1] == 10 and ask("images/tags"):
                return ask
        except (urllib.error.URLError, IndexError):
            pass
        time.sleep(0.1)
    pytest.fail("the server did not load the run")


def test_no_zigzag_after_a_resume_and_after_going_back(get: Get) -> None:
    found = get("scalars/scalars", run="pretrain", tag="loss/train")
    expected = [(step, 1.0 if step < 4 else 3.0) for step in range(1, 11)]
    assert [(step, value) for _, step, value in found] == expected


def test_charts_are_arranged(get: Get) -> None:
    found = get("custom_scalars/layout")["category"]
    assert [(part["title"], [c["title"] for c in part["chart"]]) for part in found] == [
        ("Learning", ["training and validation loss", "bits per byte by domain"])
    ]


def test_parameters_are_of_the_run_itself_beside_its_last_metrics(get: Get) -> None:
    body = {"allowedStatuses": STATUSES, "colParams": [], "startIndex": 0, "sliceSize": 10}
    (group,) = get("hparams/session_groups", body)["sessionGroups"]
    assert group["name"].endswith("small/pretrain")
    assert group["hparams"] == {
        "seed": 7, "train.total_tokens": 4096, "engine.ds_config": "zero3", "engine.compile": False,
    }  # fmt: skip
    (session,) = group["sessions"]
    assert session["status"] == "STATUS_SUCCESS"
    last = {m["name"]["tag"]: (m["trainingStep"], m["value"]) for m in session["metricValues"]}
    assert last["loss/train"] == (10, 3.0)


def test_texts_pictures_and_curves_arrive(get: Get) -> None:
    assert "small</h1>" in get("text/text", run="pretrain", tag="recipe")[-1]["text"]
    shown = get("images/images", run="pretrain", tag="confusion", sample="0")
    assert shown[-1]["step"] == 10
    query = urllib.parse.parse_qs(shown[-1]["query"])
    asked = {key: values[0] for key, values in query.items()}
    assert get("images/individualImage", **asked) == png()
    (curve,) = get("pr_curves/pr_curves", run="pretrain", tag="law")["pretrain"][-1:]
    assert curve["step"] == 10
    place = curve["thresholds"].index(0.5)
    assert curve["recall"][place] == pytest.approx(0.5)
    assert curve["precision"][place] == pytest.approx(0.5)


def test_a_curve_by_hand() -> None:
    """At 0.5 one of two positives is found, and one of two negatives is taken for one."""
    made = summaries.pr_curve("law", [True, False, True, False], [0.9, 0.2, 0.4, 0.6])
    rows = tensor_util.make_ndarray(made.value[0].tensor)
    assert rows.shape == (6, summaries.NUM_THRESHOLDS)
    assert rows[:, 0].tolist() == [2, 2, 0, 0, 0.5, 1]
    assert rows[:, 50].tolist() == [1, 1, 1, 1, 0.5, 0.5]
    assert rows[:, 100].tolist() == [0, 0, 2, 2, 0, 0]
    with pytest.raises(ValueError, match="2 labels, but 1 scores"):
        summaries.pr_curve("law", [True, False], [0.5])


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="confusion is no PNG"):
        summaries.image("confusion", b"GIF89a")


def test_parameters_of_nested_tables() -> None:
    assert summaries.flat({"a": {"b": 1, "c": None, "d": [1, 2]}, "e": "x"}) == {
        "a.b": 1,
        "a.d": "[1, 2]",
        "e": "x",
    }
