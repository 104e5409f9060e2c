"""What a pull request does to the results, as a comment for GitHub: text out of what two revisions hold.

Everything in it may come from somebody's fork. Names and values stand in spans of code, where GitHub reads neither
markup nor the names of people; pictures are made of numbers and of words without signs; and the whole has a limit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.filesize import decimal

from backbeat.experiments.compare import DECIMALS, Comparison, compare
from backbeat.experiments.results import Result
from backbeat.experiments.tables import ARROWS, difference, markdown, score, value_text

# GitHub takes 65,536 characters. What follows the table gives way first.
MOST_CHARACTERS = 60_000

# Of one value of a parameter, of one picture, and of a list. A person reads no more, and a fork can write anything.
MOST_OF_A_VALUE = 80
MOST_OF_A_WARNING = 600
MOST_OF_A_LABEL = 24
MOST_CLASSES = 24
MOST_POINTS = 60
MOST_LINES = 20

HEADLINE = "test.onset_f1"

# Gray for what was and blue for what is: told apart on white and on black, and by people who see no red.
_COLORS = '%%{init: {"themeVariables": {"xyChart": {"plotColorPalette": "#8b949e, #1f6feb"}}}}%%'


@dataclass(frozen=True)
class Data:
    """One tracked output as `dvc.lock` has it.

    Args:
        digest: DVC's hash of it.
        files: how many files it has; None where DVC did not write that down.
        size_bytes: what they weigh; None likewise.
    """

    digest: str
    files: int | None
    size_bytes: int | None


@dataclass(frozen=True)
class State:
    """What one of the two revisions holds.

    Args:
        result: its parameters and scores.
        data: what DVC tracks for it, by path.
        classes: onset F1 by class, out of `reports/plots/f1_by_class.json`.
        thresholds: onset F1 by threshold, out of `reports/plots/precision_recall.json`.
    """

    result: Result
    data: Mapping[str, Data]
    classes: Mapping[str, float]
    thresholds: Mapping[str, float]


def comment(base: State, head: State, stale: Sequence[str]) -> str:
    """Return the comment: what changed first, then how it can be seen.

    Args:
        base: where the pull request began.
        head: what it comes to.
        stale: what is wrong with `dvc.lock` of the head, a sentence each.
    """
    whole = compare([head.result], base.result)
    comparison = _limited_comparison(whole, base.result, head.result)
    differences = whole.rows[0].differences.values()
    data = _data_lines(base.data, head.data)
    has_changed = whole.params or data or any(abs(value) >= 0.5 * 10**-DECIMALS for value in differences)
    missing = sorted(base.result.metrics) != sorted(head.result.metrics)
    warned = [f"> [!WARNING]\n> {code(sentence)}" for sentence in stale[:MOST_LINES]]
    if not has_changed and not missing and not whole.warnings:
        return "\n\n".join(["Parameters, scores and data stay as they are.", *warned]) + "\n"
    more = len(whole.params) - MOST_LINES
    parts = [
        _headline(comparison),
        *warned,
        markdown(comparison).rstrip("\n"),
        *([f"{more} more parameters differ than the table shows."] if more > 0 else []),
        "\n".join(["**Data**", "", *data]) if data else "The data stays as it is.",
    ]
    parts += [picture for picture in _pictures(base, head) if len("\n\n".join([*parts, picture])) < MOST_CHARACTERS]
    text = "\n\n".join(parts)
    return (text if len(text) < MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}\n\n(cut here)") + "\n"


def code(text: str) -> str:
    """Return a text from anywhere as a span of code, on one line and of limited length."""
    plain = " ".join(text.replace("`", "'").replace("|", "¦").split())
    return f"`{_short(plain, 3 * MOST_OF_A_VALUE)}`" if plain else ""


def scores_of(rows: Any, name: str, value: str) -> dict[str, float]:
    """Return one column of a plot's data by another one, as far as both can be drawn.

    Args:
        rows: the plot's data: a list of mappings, if it is what it should be.
        name: the column that says what a value is of.
        value: the column of values between 0 and 1.
    """
    found: dict[str, float] = {}
    for row in rows if isinstance(rows, list) else []:
        label, number = (row.get(name), row.get(value)) if isinstance(row, dict) else (None, None)
        if isinstance(number, int | float) and math.isfinite(number) and 0 <= number <= 1:
            # A label ends where the picture's own signs could begin.
            plain = re.sub(r"[^A-Za-z0-9. _-]", "", str(label))[:MOST_OF_A_LABEL]
            found[plain or "?"] = float(number)
    return found


def _headline(comparison: Comparison) -> str:
    (row,) = comparison.rows
    before, after = score(comparison.against, HEADLINE), score(row.result, HEADLINE)
    if not after:
        return "**There are no scores.** `dvc repro` makes them; `reports/` is part of a commit."
    if not before:
        return f"**Onset F1 on the test split: {after}.** Where this began there was no score."
    change = difference(row, HEADLINE)
    if change == ARROWS["same"]:
        return f"**Onset F1 on the test split stays {after}.**"
    return f"**Onset F1 on the test split: {before} → {after} ({change}).**"


def _data_lines(before: Mapping[str, Data], after: Mapping[str, Data]) -> list[str]:
    changed = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    lines = [f"- {code(path)}: {_change(before.get(path), after.get(path))}" for path in changed[:MOST_LINES]]
    return [*lines, f"- and {len(changed) - MOST_LINES} more"] if len(changed) > MOST_LINES else lines


def _change(before: Data | None, after: Data | None) -> str:
    if before is None or after is None:
        return f"new, {_amount(after)}" if after else f"gone; it was {_amount(before)}"
    was, now = _amount(before), _amount(after)
    return f"{was}, with other contents" if was == now else f"{was} → {now}"


def _amount(data: Data | None) -> str:
    if data is None or data.size_bytes is None:
        return "of unknown size"
    size = decimal(data.size_bytes)
    return size if data.files is None else f"{data.files} {'file' if data.files == 1 else 'files'}, {size}"


def _pictures(base: State, head: State) -> list[str]:
    columns = [
        ("Onset F1 by class", "bar", base.classes, head.classes, MOST_CLASSES),
        ("Onset F1 over the threshold", "line", base.thresholds, head.thresholds, MOST_POINTS),
    ]
    return [
        _picture(title, kind, before, after, most)
        for title, kind, before, after, most in columns
        if after and after != before
    ]


def _picture(title: str, kind: str, before: Mapping[str, float], after: Mapping[str, float], most: int) -> str:
    """Return a folded chart in Mermaid, which GitHub draws: the base in gray, the head in blue."""
    # A series has no gaps: where the labels differ, there is nothing to draw the base by.
    both = list(before) == list(after)
    names = list(after)[:most]
    series = [(kind, before)] if both else []
    labels = ", ".join(f'"{name}"' for name in names)
    drawn = [f"    {how} [{', '.join(f'{values[name]:.3f}' for name in names)}]" for how, values in series]
    return "\n".join([
        f"<details><summary>{title}{': base in gray, head in blue' if both else ''}</summary>",
        "",
        "```mermaid",
        _COLORS,
        "xychart-beta",
        f"    x-axis [{labels}]",
        '    y-axis "F1" 0 --> 1',
        *drawn,
        f"    line [{', '.join(f'{after[name]:.3f}' for name in names)}]",
        "```",
        "",
        "</details>",
    ])  # fmt: skip


def _limited_comparison(whole: Comparison, base: Result, head: Result) -> Comparison:
    """Return a comparison of limited length, with the differences and warnings of the whole one."""
    shown = compare([_limited(head, base)], _limited(base, head))
    return dataclasses.replace(
        shown,
        rows=tuple(dataclasses.replace(row, differences=whole.rows[0].differences) for row in shown.rows),
        warnings=tuple(_short(warning, MOST_OF_A_WARNING) for warning in whole.warnings),
    )


def _limited(result: Result, other: Result) -> Result:
    """Return a result of limited length: of the parameters in which it differs from another one, the first ones."""
    names = sorted({*result.params, *other.params})
    shown = [name for name in names if result.params.get(name) != other.params.get(name)][:MOST_LINES]
    on, run = result.evaluated_on, result.training
    return dataclasses.replace(
        result,
        params={_short(name, MOST_OF_A_VALUE): _value(result.params[name]) for name in shown if name in result.params},
        dataset=_short(result.dataset, MOST_OF_A_VALUE),
        evaluated_on=on and dataclasses.replace(on, class_map=_short(on.class_map, MOST_OF_A_VALUE)),
        training=run and dataclasses.replace(run, device=_short(run.device, MOST_OF_A_VALUE)),
    )


def _value(value: object) -> object:
    text = value_text(value)
    if len(text) <= MOST_OF_A_VALUE:
        return value
    # What differs behind the cut still differs.
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]
    return f"{text[:MOST_OF_A_VALUE]}… ({len(text)} characters, SHA-256 {digest}…)"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
