"""Pictures: whole, the same for the same numbers, readable with many labels and any letters."""

import io
import warnings
import xml.etree.ElementTree as ElementTree

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from finetune.reports import drawing
from finetune.scores import confusion, precision_recall
from finetune.scores.confusion import Confusion


def square(size: int, name: str = "label") -> Confusion:
    labels = [f"{name} {i}" for i in range(size)]
    return confusion.of_classes(labels, np.eye(size, k=1, dtype=int) + 3 * np.eye(size, dtype=int))


def texts(figure: Figure) -> list[str]:
    """What the picture says, cells and names."""
    root = ElementTree.fromstring(drawing.svg(figure))
    return ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_small_matrix_says_count_and_share() -> None:
    found = texts(drawing.confusion(square(2)))
    assert {"label 0", "label 1", "gold ↓", "predicted →", "3", "75%", "1", "25%", "100%"} == set(
        found
    )


def test_of_many_labels_the_biggest_confusions_are_listed() -> None:
    found = texts(drawing.confusion(square(drawing.MOST_LABELS + 1)))
    assert "label 0 → label 1" in found
    assert len([each for each in found if "→" in each]) == drawing.MOST_MISTAKES
    assert "label 40" in texts(drawing.confusion(square(drawing.MOST_LABELS)))


@pytest.mark.parametrize("size", [1, 12, 13, 24, 25, 80])
def test_names_of_every_matrix_stay_inside(size: int) -> None:
    figure = drawing.confusion(square(size, "a name that is longer than the margin has room for"))
    for box in (each.get_window_extent() for each in figure.findobj(matplotlib.text.Text)):
        assert box.x0 >= -1
        assert box.y1 <= figure.bbox.height + 1


def test_any_letters_in_names() -> None:
    found = confusion.of_classes(["$a$ & <b>", "细胞", "\\frac"], np.eye(3, dtype=int))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = texts(drawing.confusion(found))
        assert drawing.png(drawing.confusion(found)).startswith(b"\x89PNG")
    assert {"$a$ & <b>", "细胞", "\\frac"} <= {each.replace("\\$", "$") for each in shown}


def test_curves_of_labels_and_of_confidence() -> None:
    curves = precision_recall.points({"a": ([True, False], [0.9, 0.1]), "b": ([False], [0.5])})
    found = texts(drawing.precision_recall(curves))
    assert "a (1.000)" in found
    assert not any(each.startswith("b ") for each in found)
    bins = [{"rows": 3, "confidence": 0.7, "accuracy": 0.5}, {"rows": 0}]
    assert "confidence" in texts(drawing.reliability(bins))


def test_curves_over_steps_are_explained_if_there_are_several() -> None:
    one = {"seed 1": ([0, 4], [0.1, 0.5])}
    assert "seed 1" not in texts(drawing.over_steps(one, "f1"))
    many = {f"seed {i}": ([0, 4], [0.1, 0.5]) for i in range(7)}
    found = texts(drawing.over_steps(many, "f1"))
    assert set(many) <= set(found)


def test_the_same_numbers_are_the_same_bytes() -> None:
    first, second = (drawing.svg(drawing.confusion(square(3))) for _ in range(2))
    assert first == second
    assert first.startswith("<svg")
    picture = matplotlib.image.imread(io.BytesIO(drawing.png(drawing.confusion(square(3)))))
    assert picture.min() < 0.5 < picture.max()  # not empty
