"""Charts as SVG that follows the colors of the page: Vega-Lite draws, and its colors are the page's CSS variables.

A chart is an image to a screen reader, with a name; the numbers behind it are in a table beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from markupsafe import Markup, escape

# As many as there are colors; lines beyond are told apart by nobody.
MOST_LINES = 5

# Drawn at the width that it has on a phone and in a third of a wide page, so that its letters are as large as the text.
WIDTH = 380
HEIGHT = 240

Rows = Sequence[Mapping[str, object]]

_COLORS = [f"var(--line-{number})" for number in range(1, MOST_LINES + 1)]
_DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4]]

_AXIS = {
    "labelColor": "var(--quiet)", "titleColor": "var(--quiet)", "gridColor": "var(--line)", "domain": False,
    "tickColor": "var(--line)", "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
    "titlePadding": 8, "labelPadding": 6, "ticks": False,
}  # fmt: skip
_LEGEND = {
    "orient": "top", "title": None, "labelColor": "var(--ink)", "labelFontSize": 12, "symbolStrokeWidth": 2.5,
    "symbolSize": 110, "offset": 10, "columns": 3, "labelLimit": 110,
}  # fmt: skip
_CONFIG = {"aria": False, "background": None, "view": {"stroke": None}, "axis": _AXIS, "legend": _LEGEND,
           "font": "sans-serif"}  # fmt: skip

# What Vega says of the parts of an image whose whole has a name.
_INNER_NAMES = re.compile(r' (?:role|aria-[a-z]+)="[^"]*"')


def lines(rows: Rows, names: Sequence[str], x: str, y: str, label: str, *, from_zero: bool) -> Markup | None:
    """Draw a line for each of `names`; the rows have the keys `x`, `y` and `name`.

    Args:
        rows: what to draw.
        names: the lines, in order.
        x: title and key of the horizontal axis.
        y: key of the vertical axis; the caption of the chart is its title.
        label: the name of the chart to a screen reader.
        from_zero: whether the vertical axis begins at zero.
    """
    scale = {"domain": list(names), "range": _COLORS[: len(names)]}
    dashes = {"domain": list(names), "range": _DASHES[: len(names)]}
    encoding = {
        "x": {"field": x, "type": "quantitative", "title": x, "axis": {"grid": False, "tickCount": 5}},
        "y": {
            "field": y,
            "type": "quantitative",
            "title": None,
            "scale": {"zero": from_zero},
            "axis": {"tickCount": 5},
        },
        "color": {"field": "name", "type": "nominal", "scale": scale},
        "strokeDash": {"field": "name", "type": "nominal", "scale": dashes},
    }
    return _svg({"data": _data(rows), "mark": {"type": "line", "strokeWidth": 2.5}, "encoding": encoding}, label)


def thresholds(rows: Rows, chosen: Mapping[str, float], label: str) -> Markup | None:
    """Draw scores over the threshold, and a tick below for the threshold that was chosen for each class.

    Args:
        rows: of threshold, score and name.
        chosen: threshold of each class.
        label: the name of the chart to a screen reader.
    """
    names = list(dict.fromkeys(str(row["name"]) for row in rows))
    x = {"field": "threshold", "type": "quantitative", "title": "threshold", "scale": {"domain": [0, 1]},
         "axis": {"grid": False, "tickCount": 5}}  # fmt: skip
    curves = {
        "data": _data(rows),
        "mark": {"type": "line", "strokeWidth": 2.5},
        "encoding": {
            "x": x,
            "y": {"field": "score", "type": "quantitative", "title": "score", "scale": {"domain": [0, 1]},
                  "axis": {"tickCount": 5}},
            "color": {"field": "name", "type": "nominal", "scale": {"domain": names, "range": _COLORS[: len(names)]}},
            "strokeDash": {"field": "name", "type": "nominal",
                           "scale": {"domain": names, "range": _DASHES[: len(names)]}},
        },
    }  # fmt: skip
    ticks = {
        "data": _data([{"threshold": value} for value in chosen.values()]),
        "mark": {
            "type": "tick",
            "orient": "vertical",
            "thickness": 2,
            "size": 14,
            "color": "var(--ink)",
            "yOffset": -7,
        },
        "encoding": {"x": x, "y": {"datum": 0}},
    }
    return _svg({"layer": [curves, ticks]}, label)


def dots(rows: Rows, groups: Sequence[str], label: str) -> Markup | None:
    """Draw a line of dots for each class: one for each group, told apart by color and shape.

    Args:
        rows: of class, f1 and group.
        groups: the groups, in order.
        label: the name of the chart to a screen reader.
    """
    order = list(dict.fromkeys(str(row["class"]) for row in rows))
    y = {"field": "class", "type": "nominal", "title": None, "sort": order, "axis": {"grid": True}}
    x = {"field": "f1", "type": "quantitative", "title": "onset F1", "scale": {"domain": [0, 1]},
         "axis": {"grid": False, "tickCount": 5}}  # fmt: skip
    between = {
        "mark": {"type": "rule", "stroke": "var(--quiet)", "strokeWidth": 2, "opacity": 0.5},
        "encoding": {"y": y, "x": {"aggregate": "min", "field": "f1", "type": "quantitative"},
                     "x2": {"aggregate": "max", "field": "f1"}},
    }  # fmt: skip
    shapes = ["circle", "diamond"]
    points = {
        "mark": {"type": "point", "filled": True, "size": 120, "opacity": 1},
        "encoding": {
            "x": x,
            "y": y,
            "color": {"field": "group", "type": "nominal",
                      "scale": {"domain": list(groups), "range": _COLORS[: len(groups)]}},
            "shape": {"field": "group", "type": "nominal",
                      "scale": {"domain": list(groups), "range": shapes[: len(groups)]}},
        },
    }  # fmt: skip
    height = max(HEIGHT, 26 * len(order) + 80)
    return _svg({"data": _data(rows), "layer": [between, points]}, label, height=height)


def _data(rows: Rows) -> dict[str, Any]:
    return {"values": [dict(row) for row in rows]}


def _svg(spec: Mapping[str, Any], label: str, height: int = HEIGHT) -> Markup | None:
    """Return the SVG of a specification; None where the package that draws is not installed."""
    if find_spec("vl_convert") is None:
        return None
    import vl_convert

    whole = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "width": WIDTH, "height": height,
             "autosize": {"type": "fit", "contains": "padding"}, "config": _CONFIG, **spec}  # fmt: skip
    drawn = _INNER_NAMES.sub("", vl_convert.vegalite_to_svg(json.dumps(whole)))
    # Vega escapes what is text; a test puts markup into every name.
    return Markup(drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1))  # noqa: S704
