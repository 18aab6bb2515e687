"""The figures of a page for print: the same lines, one column wide, as SVG and PDF.

A figure is drawn from the JSON that the page gives to plotly, so that the two show the same.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timelocal.files import make_folder, write_bytes
from timelocal.optional import require
from timelocal.report.figures import Figure, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

WIDTH = 3.4
"""Inches: one column."""
PAGE_WIDTH, PAGE_PLOT = 4.8, 3.5
"""Inches: of a picture on a page, and of its plots' height; 261 pixels where a phone shows it 358 wide."""
_INCHES = 2.3 / 352
"""Of height, a pixel of the page."""
_DASHES: dict[str, Any] = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (8, 3)),
}
_MARKERS = {"circle": "o", "circle-open": "o", "x": "x", "square": "s", "diamond": "D"} | {
    "triangle-up": "^",
    "line-ns-open": "|",
}
_POINT = 0.5
"""Points of the printed size, a pixel of the page."""


@contextmanager
def for_print(size: float = 7) -> Iterator[None]:
    """Small text, fonts that can be edited, and the same bytes every time.

    Args:
        size: of the text, in points.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", extra="report", for_="figures for print")
    from matplotlib import rc_context

    fixed: Any = {
        "svg.hashsalt": "timelocal",
        "pdf.fonttype": 42,
        "font.size": size,
        "axes.linewidth": 0.6,
        "lines.markersize": 0.6 * size,
    }
    with rc_context(fixed):
        yield


def set_plot_height(drawing: Drawing, inches: float) -> None:
    """Choose the height of a drawing so that its plots are so high, whatever names and legend take."""
    rows = drawing.axes[0].get_gridspec().nrows  # type: ignore[union-attr]
    for _ in range(3):  # of what is added, the space between rows takes a small share
        drawing.draw_without_rendering()
        lowest = min(axes.get_window_extent().height for axes in drawing.axes) / drawing.dpi
        drawing.set_figheight(drawing.get_figheight() + rows * (inches - lowest))


def save(drawing: Drawing, path: Path) -> Path:
    """Write a drawing in the format of the file's suffix, without a date.

    Raises:
        RunError: it cannot be written.
    """
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
    written = io.BytesIO()
    drawing.savefig(written, format=path.suffix[1:], metadata=undated)
    make_folder(path.parent)
    write_bytes(path, written.getvalue())
    return path


def print_figure(figure: Figure, legend: Sequence[Series], stem: Path) -> list[Path]:
    """Write `stem`.svg and `stem`.pdf.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RunError: they cannot be written.
    """
    with for_print():
        from matplotlib.figure import Figure as Drawing

        height = (figure.height or 352) * _INCHES
        drawing = Drawing(figsize=(WIDTH, height), layout="constrained")
        _draw(drawing, figure)
        rows = _legend(drawing, figure, legend)
        drawing.set_figheight(height + 0.14 * rows)
        return [save(drawing, stem.with_name(f"{stem.name}{end}")) for end in (".svg", ".pdf")]


def thumbnail(figure: Figure, path: Path) -> Path:
    """Write a small picture of the lines alone, 240 × 168 pixels.

    Raises:
        MissingExtraError: matplotlib is not installed.
        RunError: it cannot be written.
    """
    with for_print():
        from matplotlib.figure import Figure as Drawing

        drawing = Drawing(figsize=(2, 1.4), dpi=120, layout="constrained")
        _draw(drawing, figure)
        for axes in drawing.axes:
            axes.set(xlabel="", ylabel="", xticks=[], yticks=[])
            axes.tick_params(which="both", length=0, labelleft=False, labelbottom=False)
            for text in axes.texts:
                text.set_visible(False)
        return save(drawing, path)


def plain(text: str) -> str:
    """Text of a page without its markup."""
    return html.unescape(text.replace("<br>", "\n"))


def _draw(drawing: Drawing, figure: Figure) -> None:
    """Every vertical axis of the page in a plot of its own, above one horizontal axis."""
    layout = figure.spec["layout"]
    names = [name for name in layout if name.startswith("yaxis")]
    rows = drawing.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(rows, names, strict=True):
        key = name.replace("axis", "")
        own = [trace for trace in figure.spec["data"] if trace.get("yaxis", "y") == key]
        _plot(axes, own, layout | {"yaxis": layout[name]})
    draw_axis(rows[-1], "x", layout["xaxis"])
    drawing.align_ylabels()


def _plot(axes: Axes, traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(width=0.6)
    places = {name: n for n, name in enumerate(layout["yaxis"].get("categoryarray", ()))}
    for order, trace in enumerate(traces):
        heights = [places.get(y, y) for y in trace["y"]] if places else trace["y"]
        _trace(axes, trace, trace.get("x", range(len(heights))), heights, order)
    for shape in layout.get("shapes", ()):
        axes.axhline(
            shape["y0"],
            color=shape["line"]["color"],
            linewidth=0.6,
            linestyle=_DASHES[shape["line"].get("dash", "solid")],
            zorder=0,
        )
    for note in layout.get("annotations", ()):
        axes.annotate(
            plain(note["text"]),
            (note.get("x", 0), places.get(note["y"], note["y"])),
            (0, _POINT * note.get("yshift", 4)),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            horizontalalignment=note["xanchor"],
            verticalalignment=note["yanchor"],
            color=note["font"].get("color", "black"),
        )
    draw_axis(axes, "y", layout["yaxis"])


def _trace(axes: Axes, trace: Mapping[str, Any], x: Any, y: Any, order: int) -> None:
    """One line, its markers, or a band; later ones lie in front."""
    line = trace.get("line", {})
    colour = line.get("color") or trace["marker"]["color"]
    if trace.get("fill"):
        axes.fill(x, y, color=colour, alpha=0.15, linewidth=0, zorder=order / 1000)
        return
    look = {"color": colour, "alpha": trace.get("opacity", 1), "zorder": 1 + order / 1000}
    if "lines" in trace["mode"]:
        width = 0.55 * line.get("width", 2)
        axes.plot(x, y, linewidth=width, linestyle=_DASHES[line.get("dash", "solid")], **look)
    if "markers" in trace["mode"]:
        marker = trace.get("marker", {})
        sizes, symbols = (_each(marker.get(key), len(x)) for key in ("size", "symbol"))
        # the largest number of markers on a curve
        every = -(-len(x) // marker["maxdisplayed"]) if "maxdisplayed" in marker else 1
        for n, (size, symbol) in enumerate(zip(sizes, symbols, strict=True)):
            if size != 0 and n % every == 0:
                axes.plot(
                    x[n],
                    y[n],
                    _MARKERS[symbol or "circle"],
                    markersize=_POINT * (size or 6),
                    markerfacecolor="white" if symbol == "circle-open" else colour,
                    markeredgewidth=1.4 if symbol == "line-ns-open" else 0.7,
                    **look,
                )


def _each(value: Any, count: int) -> Sequence[Any]:
    return value if isinstance(value, list) else [value] * count


def draw_axis(axes: Axes, name: str, asked: Mapping[str, Any]) -> None:
    """The title, the scale, the range and the ticks of one axis."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

    log = asked.get("type") == "log"
    title = plain(asked["title"]["text"])
    axes.set(**{f"{name}label": title})
    own = axes.xaxis if name == "x" else axes.yaxis
    if "font" in asked["title"]:
        own.label.set_fontsize(_POINT * asked["title"]["font"]["size"])
    if log:
        axes.set(**{f"{name}scale": "log"})
        shown = (axes.get_xlim if name == "x" else axes.get_ylim)()
        low, high = asked.get("range", [math.log10(end) for end in shown])
        own.set_minor_formatter(NullFormatter())
        if high - low < 2:  # the powers of ten are too few
            own.set_major_locator(
                LogLocator(subs=(1, 2, 5) if high - low > 0.7 else (1, 2, 3, 5, 7))
            )
            own.set_major_formatter("{x:g}")
    elif title in ("Epoch", "Step"):
        own.set_major_locator(MaxNLocator(5, integer=True))
    if "range" in asked:
        ends = asked["range"]
        axes.set(**{f"{name}lim": [10**end for end in ends] if log else ends})
    if "ticktext" in asked:
        own.set_ticks(asked["tickvals"], labels=[plain(text) for text in asked["ticktext"]])
        own.set_minor_locator(NullLocator())
    elif not asked.get("showticklabels", True):
        own.set_ticks([])
    elif "nticks" in asked and not log:
        own.set_major_locator(MaxNLocator(asked["nticks"], steps=(1, 2, 5, 10)))


def _legend(drawing: Drawing, figure: Figure, legend: Sequence[Series]) -> int:
    """An entry for every line in the figure, above it; how many rows they take."""
    from matplotlib.lines import Line2D

    traces = figure.spec["data"]
    keys = {trace.get("legendgroup", trace.get("meta")) for trace in traces}
    if any(note.get("yshift") for note in figure.spec["layout"].get("annotations", ())):
        return 0  # every line has its name next to it
    entries = [
        Line2D(
            [],
            [],
            label=plain(one.label),
            color=one.colour,
            linestyle=_DASHES[one.dash],
            linewidth=1.4,
            marker=_MARKERS[one.symbol] if one.symbol else None,
            markersize=3,
        )
        for one in legend
        if one.key in keys
    ] or [
        Line2D(
            [],
            [],
            label=trace["name"],
            color=trace["line"]["color"],
            linestyle=_DASHES[trace["line"]["dash"]],
        )
        for trace in traces
        if trace.get("showlegend") and "line" in trace
    ]
    if not entries:
        return 0
    columns = max(1, min(4, int(64 / (9 + max(len(str(one.get_label())) for one in entries)))))
    drawing.legend(
        handles=entries, loc="outside upper center", ncols=columns, frameon=False, handlelength=2.4
    )
    return -(-len(entries) // columns)
