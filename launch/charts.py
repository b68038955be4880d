"""Charts as SVG text for the report: no files, no scripts, the same look for all of them."""

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from launch.results import Curve

COLOURS = ("#2f6fde", "#d1495b", "#2a9d8f", "#e09f3e", "#7353ba", "#5f6b7a", "#8a5a44", "#3d405b")
GRID = "#e4e7ec"
INK = "#344054"
COLUMNS = 4  # of a legend


def lines(
    curves: Mapping[str, Curve], unit: str, *, starts_at_zero: bool = False, wide: bool = False
) -> str | None:
    """A chart of several curves over the steps; None if there is nothing to draw."""
    drawn = {label: curve for label, curve in curves.items() if len(curve.steps) > 1}
    if not drawn:
        return None
    with looks():
        figure, axes = empty(wide)
        for number, (label, curve) in enumerate(drawn.items()):
            colour = COLOURS[number % len(COLOURS)]
            marker = "o" if len(curve.steps) <= 12 else ""
            axes.plot(
                curve.steps, curve.values, color=colour, label=label, lw=1.7, marker=marker, ms=3.5
            )
        axes.set_ylabel(unit, color=INK)
        if starts_at_zero:
            highest = max(max(curve.values) for curve in drawn.values())
            axes.set_ylim(0, 1.06 * highest if highest > 0 else 1)
        axes.margins(x=0.02)
        if len(drawn) > 1:
            explain(axes)
        return svg(figure)


def layers(curves: Mapping[str, Curve], unit: str) -> str | None:
    """Shares of a whole over the steps, one on the other; None if there is nothing to draw.

    A share holds until the next step that has any.
    """
    steps = sorted({step for curve in curves.values() for step in curve.steps})
    if len(steps) < 2:
        return None
    with looks():
        figure, axes = empty(wide=False)
        axes.stackplot(
            steps,
            [at(curve, steps) for curve in curves.values()],
            labels=list(curves),
            colors=[COLOURS[number % len(COLOURS)] for number in range(len(curves))],
            step="post",
            alpha=0.85,
        )
        axes.set_ylabel(unit, color=INK)
        axes.set_ylim(0, 1)
        axes.margins(x=0)
        explain(axes)
        return svg(figure)


def at(curve: Curve, steps: Sequence[int]) -> list[float]:
    """The value of a curve at each step, 0 where it has none."""
    known = dict(zip(curve.steps, curve.values, strict=True))
    return [known.get(step, 0.0) for step in steps]


def looks() -> AbstractContextManager[None]:
    """Fonts of every chart: text stays text."""
    return mpl.rc_context({"font.family": "sans-serif", "svg.fonttype": "none", "font.size": 9})


def empty(wide: bool) -> tuple[Figure, Axes]:
    """A chart without curves."""
    figure = Figure(figsize=(8.6 if wide else 4.3, 2.9), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("step", color=INK)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=INK, length=0)
    return figure, axes


def explain(axes: Axes) -> None:
    """Say which colour is what, above the curves where it hides none of them."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(
        handles, labels, loc="outside upper left", ncols=min(len(labels), COLUMNS),
        frameon=False, labelcolor=INK, fontsize=8, handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip


def svg(figure: Figure) -> str:
    """The picture as text, the same for the same curves."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
