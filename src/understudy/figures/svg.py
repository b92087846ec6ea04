"""Pictures as text: the few marks the charts are made of.

The report draws its own SVG instead of carrying a plotting library: the page then weighs what its content weighs
(plotly alone is 4.8 MB), opens at once, prints, and needs no script to be read. Every attribute and every text goes
through `tag`, which escapes it. Colours are classes, so that the style sheet decides them for light, dark and paper;
there is no style attribute anywhere, because the page's content security policy forbids them.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 340  # of every chart, in units that are about one pixel on a phone and in a column of the laptop page


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """One element. Python names become attributes: `class_` -> class, `stroke_width` -> stroke-width. None is left out.

    >>> str(tag("text", "a < b", x=1.0, class_="axis"))
    '<text x="1" class="axis">a &lt; b</text>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(clean(_number(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(child if isinstance(child, Markup) else clean(child) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def _number(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def clean(text: object) -> str:
    """Text without control characters, halves of surrogates and overrides of the writing direction."""
    return "".join(mark for mark in str(text) if mark in "\n\t" or not _hidden(mark))


def _hidden(mark: str) -> bool:
    turns = "\u202a" <= mark <= "\u202e" or "\u2066" <= mark <= "\u2069"
    return turns or unicodedata.category(mark) in ("Cc", "Cs")


def shorten(text: object, length: int) -> str:
    """At most `length` characters, the last one an ellipsis where something was cut."""
    text = " ".join(clean(text).split())
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def picture(*marks: object, height: float, label: str, width: float = WIDTH) -> Markup:
    """A whole SVG, scaling with its column, read out as `label`."""
    return tag("svg", *marks, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label, class_="chart")


def text(x: float, y: float, words: object, *, anchor: str = "start", class_: str = "axis", turn: float = 0) -> Markup:
    """Words at a point, their middle height on y."""
    rotate = f"rotate({turn:g} {x:g} {y:g})" if turn else None
    return tag("text", words, x=x, y=y, dy="0.35em", text_anchor=anchor, class_=class_, transform=rotate)


def rule(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, **more: object) -> Markup:
    width, height = max(0.0, float(width)), max(0.0, float(height))
    return tag("rect", x=float(x), y=float(y), width=width, height=height, class_=class_, **more)


def dot(x: float, y: float, radius: float, class_: str, **more: object) -> Markup:
    return tag("circle", cx=float(x), cy=float(y), r=float(radius), class_=class_, **more)


def path(points: Sequence[tuple[float, float]], class_: str, *, closed: bool = False) -> Markup:
    """A line through the points, or the area inside them."""
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return tag("path", d=f"M{steps}{'Z' if closed else ''}", class_=class_)


def whisker(scale: Scale, low: float | None, high: float | None, y: float, class_: str) -> Markup:
    """A horizontal interval with end caps; nothing where there is no interval."""
    if low is None or high is None:
        return Markup("")
    left, right = scale(low), scale(high)
    return Markup("").join(
        [
            rule(left, y, right, y, class_),
            rule(left, y - 4, left, y + 4, class_),
            rule(right, y - 4, right, y + 4, class_),
        ]
    )


@dataclass(frozen=True)
class Scale:
    """Data [low, high] -> picture [start, end], straight, and clamped to it."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        if self.high == self.low:
            return (self.start + self.end) / 2
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, about: int = 4) -> list[tuple[float, str]]:
        """Round values within the range and what to write beside them.

        >>> Scale(0, 1, 0, 100).ticks()
        [(0.0, '0'), (0.2, '0.2'), (0.4, '0.4'), (0.6, '0.6'), (0.8, '0.8'), (1.0, '1')]
        """
        span = self.high - self.low
        if span <= 0:
            return [(self.low, f"{self.low:.4g}")]
        power = 10.0 ** math.floor(math.log10(span / about))
        step = min((m * power for m in (1, 2, 5, 10) if m * power >= span / about * 0.7), default=10 * power)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        values = [index * step for index in range(first, last + 1)]
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(round(value, 12), _tick(value, decimals)) for value in values]


def _tick(value: float, decimals: int) -> str:
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    if decimals > 4:
        return f"{value:.1g}".replace("e-0", "e-").replace("-", "−")
    short = f"{value:.{decimals}f}"
    short = short.rstrip("0").rstrip(".") if "." in short else short
    return "0" if short == "-0" else short.replace("-", "−")
