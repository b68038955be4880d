"""Pictures of scores: confusion, precision and recall, reliability, curves over the steps.

Each function returns a figure; `png` makes it a picture for TensorBoard, `svg` an element of a
page. Drawn without automatic layout, which is most of matplotlib's time.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_prep.pictures import COLOURS, GRID, INK, NO_METADATA, STYLE
from finetune.scores.confusion import Confusion

MOST_LABELS = 80  # of a matrix; of more labels the biggest confusions are listed
MOST_MISTAKES = 30  # that are listed
NUMBERED = 24  # labels up to which a cell says its count
LABEL_CHARACTERS = 24  # of a label beside a matrix
DPI = 110
NAMED = 9.0  # points: size of a letter
# matplotlib's own font has no letters of these scripts; one of the machine's may.
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "WenQuanYi Micro Hei", "SimHei")

Points = tuple[Sequence[float], Sequence[float]]  # of a curve: x and y


def confusion(found: Confusion) -> Figure:
    """Counts and shares of gold labels (rows) by predicted label; of many labels the biggest
    confusions."""
    size = max(len(found.gold), len(found.predicted))
    return matrix(found) if size <= MOST_LABELS else mistakes(found)


def matrix(found: Confusion) -> Figure:
    """Cells shaded by the share of their row; a cell of a small matrix says count and share."""
    rows, columns = len(found.gold), len(found.predicted)
    is_numbered = max(rows, columns) <= NUMBERED
    narrow = min(0.145, 9.0 / max(rows, columns))  # inches; as wide as a page
    cell = 0.58 if max(rows, columns) <= 12 else 0.36 if is_numbered else narrow
    font = NAMED if is_numbered else 7.0
    left, top = margin(found.gold, font) + 0.2, margin(found.predicted, font) + 0.32
    width, height = left + columns * cell + 0.2, top + rows * cell + 0.15
    figure = Figure(figsize=(max(width, 2.6), max(height, 2.0)))
    figure.patch.set_facecolor("white")
    width, height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / width, 1 - (top + rows * cell) / height, columns * cell / width,
         rows * cell / height)
    )  # fmt: skip
    axes.imshow(found.shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_axis_off()
    kwargs: dict[str, Any] = {
        "color": INK,
        "fontsize": font,
    }  # texts: ticks take three times as long
    for i, name in enumerate(found.gold):
        axes.text(-0.6, i, short(name), ha="right", va="center", **kwargs)
    for j, name in enumerate(found.predicted):
        axes.text(j, -0.6, short(name), ha="center", va="bottom", rotation=90, **kwargs)
    figure.text(0.08 / width, axes.get_position().y1, "gold ↓", va="bottom", **kwargs)
    figure.text(axes.get_position().x0, 1 - 0.04 / height, "predicted →", va="top", **kwargs)
    if is_numbered:
        number_cells(axes, found, has_shares=max(rows, columns) <= 12)
    return figure


def number_cells(axes: Axes, found: Confusion, has_shares: bool) -> None:
    shares = found.shares
    for i, row in enumerate(found.counts.tolist()):
        for j, count in enumerate(row):
            if not count:
                continue
            text = f"{count:,}\n{shares[i, j]:.0%}" if has_shares else f"{count:,}"
            colour = "white" if shares[i, j] > 0.55 else INK
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=7)


def mistakes(found: Confusion) -> Figure:
    """The most frequent confusions as bars."""
    pairs = found.mistakes(MOST_MISTAKES)
    names = [f"{short(gold)} → {short(predicted)}" for gold, predicted, _ in pairs]
    figure, axes = bars(names, "rows of the gold label that were predicted as the other")
    axes.barh(range(len(pairs)), [count for *_, count in pairs], color=COLOURS[0], height=0.72)
    for place, (*_, count) in enumerate(pairs):
        axes.text(count, place, f" {count:,}", va="center", color=INK, fontsize=8)
    axes.margins(x=0.08)
    return figure


def bars(names: Sequence[str], label: str) -> tuple[Figure, Axes]:
    """Axes with one row a name, the first on top."""
    left = margin(names, NAMED, most=60) + 0.15
    width, height = left + 4.2, 0.6 + 0.22 * max(len(names), 1)
    figure = Figure(figsize=(width, height))
    figure.patch.set_facecolor("white")
    axes = figure.add_axes((left / width, 0.45 / height, 4.0 / width, 1 - 0.55 / height))
    plain(axes)
    axes.grid(axis="y", lw=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel(label, color=INK)
    return figure, axes


def precision_recall(curves: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Curves of `precision_recall.points`, the average precision in the legend."""
    legend = 0.95 + margin(list(curves), 8.0)  # a line, a name, its number
    figure, axes = square("recall", "precision", max(legend, 1.5))
    for number, (name, found) in enumerate(curves.items()):
        label = f"{short(name)} ({found['average_precision']:.3f})"
        axes.plot(
            found["recall"], found["precision"], color=COLOURS[number % len(COLOURS)],
            lw=1.6, label=label, drawstyle="steps-pre",
        )  # fmt: skip
    explain(figure, axes, "average precision")
    return figure


def reliability(bins: Sequence[Mapping[str, float]]) -> Figure:
    """How often predictions of a confidence are right; the dotted line is a model that knows.

    A point's area is the share of the predictions in it.
    """
    shown = [each for each in bins if each["rows"]]
    total = sum(each["rows"] for each in shown)
    figure, axes = square("confidence", "share that is right", 0.0)
    axes.plot([0, 1], [0, 1], ":", color=INK, lw=1.1)
    confidence = [each["confidence"] for each in shown]
    right = [each["accuracy"] for each in shown]
    axes.plot(confidence, right, color=COLOURS[0], lw=1.4)
    sizes = [12 + 240 * each["rows"] / max(total, 1) for each in shown]
    axes.scatter(confidence, right, s=sizes, color=COLOURS[0], alpha=0.75, lw=0)
    return figure


def over_steps(curves: Mapping[str, Points], unit: str) -> Figure:
    """Curves over the steps of training."""
    lines = -(-len(curves) // 3) if len(curves) > 1 else 0  # of the legend
    height = 2.6 + 0.17 * lines
    figure = Figure(figsize=(4.6, height))
    axes = figure.add_axes((0.15, 0.45 / height, 0.82, 2.1 / height))
    plain(axes)
    for number, (name, (steps, values)) in enumerate(curves.items()):
        marker = "o" if len(steps) <= 12 else ""
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(steps, values, color=colour, lw=1.6, marker=marker, ms=3.5, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("step", color=INK)
    axes.set_ylabel(unit, color=INK)
    axes.margins(x=0.02)
    if lines:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, frameon=False,
            labelcolor=INK, fontsize=8, handlelength=1.2, columnspacing=1.2,
        )  # fmt: skip
    return figure


def square(x: str, y: str, legend: float) -> tuple[Figure, Axes]:
    """Axes from 0 to 1, with so many inches for a legend on the right."""
    width = 3.6 + legend
    figure = Figure(figsize=(width, 3.4))
    figure.patch.set_facecolor("white")
    axes = figure.add_axes((0.55 / width, 0.14, 2.9 / width, 0.83))
    plain(axes)
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    return figure, axes


def explain(figure: Figure, axes: Axes, title: str) -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles, labels, title=title, loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False,
        labelcolor=INK, fontsize=8, title_fontsize=8, handlelength=1.2, alignment="left",
    )  # fmt: skip


def plain(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.grid(color=GRID, lw=0.8)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=INK, length=0)


def short(name: str) -> str:
    """A label that fits beside a matrix; `$` would begin a formula."""
    cut = name if len(name) <= LABEL_CHARACTERS else name[: LABEL_CHARACTERS - 1] + "…"
    return cut.replace("$", r"\$")


def margin(names: Sequence[str], font: float, most: int = LABEL_CHARACTERS) -> float:
    """Inches that the longest of these names takes."""
    longest = max((sum(1 + (ord(letter) > 0x2E80) for letter in name) for name in names), default=1)
    return min(longest, most + most // 2) * font * 0.0088


@contextmanager
def looks() -> Iterator[None]:
    """Fonts for as many scripts as the machine has; letters it lacks are boxes, without a word."""
    installed = set(font_manager.get_font_names())
    fonts = [name for name in FONTS if name in installed]
    with mpl.rc_context({"font.family": fonts, "font.size": NAMED}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with looks():
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """The figure as an <svg> element, the same for the same figures."""
    buffer = io.StringIO()
    with looks(), mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
