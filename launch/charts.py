"""Line charts as SVG text for the report: no files, no scripts, the same look for all of them."""

import io
from collections.abc import Mapping

import matplotlib as mpl
from matplotlib.figure import Figure

from launch.results import Curve

COLOURS = ("#2f6fde", "#d1495b", "#2a9d8f", "#e09f3e", "#7353ba", "#5f6b7a", "#8a5a44", "#3d405b")
GRID = "#e4e7ec"
INK = "#344054"


def lines(
    curves: Mapping[str, Curve], unit: str, *, starts_at_zero: bool = False, wide: bool = False
) -> str | None:
    """A chart of several curves over the steps; None if there is nothing to draw."""
    drawn = {label: curve for label, curve in curves.items() if len(curve.steps) > 1}
    if not drawn:
        return None
    with mpl.rc_context({"font.family": "sans-serif", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8.6 if wide else 4.3, 2.9), layout="constrained")
        axes = figure.subplots()
        for number, (label, curve) in enumerate(drawn.items()):
            colour = COLOURS[number % len(COLOURS)]
            marker = "o" if len(curve.steps) <= 12 else ""
            axes.plot(
                curve.steps, curve.values, color=colour, label=label, lw=1.7, marker=marker, ms=3.5
            )
        axes.set_xlabel("step", color=INK)
        axes.set_ylabel(unit, color=INK)
        if starts_at_zero:
            axes.set_ylim(bottom=0)
        axes.margins(x=0.02)
        axes.grid(color=GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GRID)
        axes.tick_params(colors=INK, length=0)
        if len(drawn) > 1:
            axes.legend(frameon=False, labelcolor=INK, fontsize=8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
