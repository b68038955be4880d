"""The charts of the data card as SVG text: no outside references, the same figures, the same bytes.

Drawn without automatic layout and with few ticks, because a card is drawn at the end of every build
and most of its time is matplotlib's layout. Legends are HTML beside the picture, where they wrap.
"""

import io
import warnings
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLOURS = (
    "#4477aa", "#ee6677", "#ccbb44", "#66ccee", "#aa3377", "#ee9955", "#77724a", "#9999cc",
    "#cc8899", "#5f6b7a",
)  # fmt: skip
KEPT = "#a9cfa4"
OTHER = "#cccccc"
INK, GRID = "#344054", "#e4e7ec"
WIDTH = 7.2  # inches
ROW, HEAD, FOOT = 0.3, 0.12, 0.52  # inches: a bar's height with its gap, space above and below
CHARACTER = 0.075  # inches: width of a character of a label
LABEL_CHARACTERS = 24  # of a name beside a chart; the tables have it whole
STYLE = {"svg.hashsalt": "textmill", "svg.fonttype": "none", "font.size": 9,
         "font.family": "sans-serif", "path.simplify": False}  # fmt: skip
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def lengths(percentiles: Mapping[str, Sequence[float]], fits: int) -> str:
    """For each name the 5th, 25th, 50th, 75th and 95th percentile of tokens in a document."""
    figure, axes = rows_of(list(percentiles), "tokens in a document: 5 - 25 - 50 - 75 - 95 %")
    values = np.log2(np.maximum(np.array(list(percentiles.values()), float), 1.0))  # (names, 5)
    places = np.arange(len(values))
    axes.hlines(places, values[:, 0], values[:, 4], color=COLOURS[0], lw=1.2)
    axes.hlines(places, values[:, 1], values[:, 3], color=COLOURS[0], lw=8, alpha=0.55)
    axes.plot(values[:, 2], places, "o", color=INK, ms=4)
    axes.axvline(np.log2(fits), color=COLOURS[1], ls=":", lw=1.2)
    low, high = int(values.min()), int(np.ceil(max(values.max(), np.log2(fits)))) + 1
    axes.set_xlim(low, high)
    steps = range(low, high + 1, max(1, (high - low) // 7))
    axes.set_xticks(steps, [f"{1 << step:,}" for step in steps])
    return svg(figure)


def shares(parts: Mapping[str, Mapping[str, int]], colours: Mapping[str, str], label: str) -> str:
    """Stacked bars, one a name, each 100 % long; parts in the order of `colours`."""
    figure, axes = rows_of(list(parts), label)
    totals = np.array([max(sum(counts.values()), 1) for counts in parts.values()])
    left = np.zeros(len(parts))
    for part, colour in colours.items():
        width = 100 * np.array([counts.get(part, 0) for counts in parts.values()]) / totals
        axes.barh(range(len(parts)), width, left=left, color=colour, height=0.72)
        left += width
    axes.set_xlim(0, 100)
    axes.set_xticks(range(0, 101, 20))
    return svg(figure)


def amounts(counts: Mapping[str, int], label: str) -> str:
    """Bars with their figures."""
    figure, axes = rows_of(list(counts), label)
    most = max([1, *counts.values()])
    axes.barh(range(len(counts)), list(counts.values()), color=COLOURS[0], height=0.72)
    for place, count in enumerate(counts.values()):
        axes.text(count + most / 100, place, f"{count:,}", va="center", color=INK, fontsize=8)
    axes.set_xlim(0, 1.18 * most)
    axes.set_xticks([])
    return svg(figure)


def ranks(token_ranks: Sequence[tuple[int, int]], frequent: int) -> str:
    """How often the token of each rank occurs, both axes logarithmic."""
    shown = np.log10(np.array([pair for pair in token_ranks if pair[1]] or [(1, 1)], float))
    figure = Figure(figsize=(WIDTH, 2.9))
    axes = figure.add_axes((0.115, 0.17, 0.87, 0.79))
    style(axes)
    axes.plot(shown[:, 0], shown[:, 1], marker="o", ms=3.5, color=COLOURS[0])
    axes.axhline(np.log10(frequent), color=COLOURS[1], ls=":", lw=1.2)
    for set_ticks, high in ((axes.set_xticks, shown[:, 0].max()), (axes.set_yticks, shown.max())):
        powers = range(int(np.ceil(high)) + 1)
        set_ticks(powers, [f"{10**power:,}" for power in powers])
    axes.set_xlabel("rank of the token", color=INK)
    axes.set_ylabel("occurrences", color=INK)
    return svg(figure)


def shades(matrix: NDArray[np.int64]) -> list[list[str]]:
    """A background colour for each number of a table, darker for more, on a logarithmic scale."""
    levels = np.log1p(matrix) / max(float(np.log1p(matrix).max(initial=0)), 1e-9)
    return [[f"rgba(68,119,170,{0.7 * level:.2f})" for level in row] for row in levels]


def rows_of(names: Sequence[str], label: str) -> tuple[Figure, Axes]:
    """Axes with one row a name, the first on top; as high as the names need."""
    cut = [name if len(name) <= LABEL_CHARACTERS else name[: LABEL_CHARACTERS - 1] + "…"
           for name in names]  # fmt: skip
    height = HEAD + ROW * max(len(names), 1) + FOOT
    left = (0.2 + CHARACTER * max([4, *(len(name) for name in cut)])) / WIDTH
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((left, FOOT / height, 0.955 - left, 1 - (FOOT + HEAD) / height))
    style(axes)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), cut)
    axes.set_xlabel(label, color=INK)
    return figure, axes


def style(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=INK, length=0)


def svg(figure: Figure) -> str:
    """The figure as an <svg> element."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # matplotlib's font measures the text; the reader's browser, which has more, draws it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata=NO_METADATA)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
