"""A comparison as text: Markdown for GitHub, CSV for other programs, and the cells of the table on a terminal.

People get three decimals and a word or an arrow; programs get every digit and every column.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence

from backbeat.experiments.compare import Comparison, Row, headline, labels, verdict
from backbeat.experiments.results import Result

UNKNOWN = "?"
ARROWS: Mapping[str | None, str] = {"better": "↑", "worse": "↓", "same": "=", None: ""}

# So much of a hash tells one from another.
SHORT_HASH = 8

# The circumstances that a table shows beside the scores.
CIRCUMSTANCES = ("data", "training", "device", "cost")

# What Markdown and HTML would take for markup. A name that comes from somebody's fork stays a name.
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~<>])")


def changes(comparison: Comparison, row: Row) -> tuple[str, ...]:
    """Return `learning_rate 0.003 -> 0.001` for each parameter in which a row differs."""
    named = _param_labels(comparison)
    before = comparison.against.params
    return tuple(
        f"{named[name]} {value_text(before.get(name))} -> {value_text(value)}" for name, value in row.changed.items()
    )


def assigned_text(changes: Mapping[str, object]) -> tuple[str, ...]:
    """Return `train.learning_rate=0.001` for each of these parameters."""
    return tuple(f"{name}={value_text(value)}" for name, value in changes.items())


def value_text(value: object) -> str:
    """Return the value of a parameter as `params.yaml` could have it, on one line."""
    if isinstance(value, str):
        return value
    return "none" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def score(result: Result, metric: str) -> str:
    """Return a metric of a result to three decimals, or nothing where it has none; counts have no decimals."""
    value = result.metrics.get(metric)
    if value is None:
        return ""
    return f"{value:,.0f}" if verdict(metric, 0) is None and value == int(value) else f"{value:.3f}"


def difference(row: Row, metric: str) -> str:
    """Return `+0.011↑`: the difference and whether that is better; `=` where there is none."""
    value = row.differences.get(metric)
    if value is None:
        return ""
    meaning = verdict(metric, value)
    if meaning == "same" or value == 0:
        return ARROWS["same"]
    decimals = 3 if abs(value) >= 0.0005 else 4
    number = f"{value:+,.0f}" if meaning is None and value == int(value) else f"{value:+.{decimals}f}"
    return f"{number}{ARROWS[meaning]}"


def circumstances(result: Result) -> tuple[str, ...]:
    """Return data, time of training, device and cost of a result, in the order of `CIRCUMSTANCES`."""
    data = f"{result.dataset} {(result.data_hash or UNKNOWN)[:SHORT_HASH]}"
    if result.training is None:
        return data, UNKNOWN, UNKNOWN, UNKNOWN
    run = result.training
    several = f" x {run.devices}" if run.devices > 1 else ""
    return data, duration_text(run.training_s), f"{run.device}{several}", cost_text(result.cost_usd)


def duration_text(duration_s: float) -> str:
    """Return a duration for people: `42 s`, `2 min 43 s`, `3 h 05 min`."""
    whole_s = round(duration_s)
    if whole_s < 60:
        return f"{whole_s} s"
    if whole_s < 3600:
        return f"{whole_s // 60} min {whole_s % 60:02} s"
    return f"{whole_s // 3600} h {whole_s % 3600 // 60:02} min"


def cost_text(cost_usd: float | None) -> str:
    """Return a cost for people; a fraction of a cent is said to be one."""
    if cost_usd is None:
        return UNKNOWN
    return "<$0.01" if 0 < cost_usd < 0.005 else f"${cost_usd:.2f}"


def legend(comparison: Comparison) -> str:
    """Return what the arrows mean."""
    return f"{ARROWS['better']} better, {ARROWS['worse']} worse, {ARROWS['same']} equal to {comparison.against.name}"


def markdown(comparison: Comparison, metrics: Sequence[str] | None = None) -> str:
    """Return the comparison as GitHub shows it: a table, what its signs mean, and warnings.

    Args:
        comparison: what to show.
        metrics: the metrics to show; those that are looked at first, if not given.
    """
    shown = headline(comparison) if metrics is None else metrics
    lines = [
        _markdown_row(["experiment", "changed", *map(_code, shown), *CIRCUMSTANCES]),
        _markdown_row(["---", "---", *("--:" for _ in shown), *("---" for _ in CIRCUMSTANCES)]),
        _markdown_row(_markdown_cells(comparison.against, "", [score(comparison.against, name) for name in shown])),
    ]
    for row in comparison.rows:
        scores = [" ".join(filter(None, (score(row.result, name), difference(row, name)))) for name in shown]
        changed = "<br>".join(map(_code, changes(comparison, row)))
        lines.append(_markdown_row(_markdown_cells(row.result, changed, scores)))
    warned = [f"> [!WARNING]\n> {_escaped(warning)}" for warning in comparison.warnings]
    return "\n\n".join(["\n".join(lines), _escaped(legend(comparison)), *warned]) + "\n"


def csv_text(comparison: Comparison) -> str:
    """Return the comparison as CSV: one line for each result, `against` first, every column, every digit.

    Columns are called `params.NAME` (those that differ anywhere), `metrics.NAME` and `differences.NAME`.
    """
    text = io.StringIO()
    against = {**_facts(comparison, comparison.against), **_prefixed("differences", comparison.metrics, {})}
    writer = csv.DictWriter(text, list(against), lineterminator="\n")
    writer.writeheader()
    writer.writerow(against)
    for row in comparison.rows:
        differences = _prefixed("differences", comparison.metrics, row.differences)
        writer.writerow({**_facts(comparison, row.result), **differences})
    return text.getvalue()


def _facts(comparison: Comparison, result: Result) -> dict[str, object]:
    run, on = result.training, result.evaluated_on
    values = {name: value_text(result.params[name]) for name in comparison.params if name in result.params}
    return {
        "name": result.name,
        "revision": result.revision,
        "dataset": result.dataset,
        "data_hash": result.data_hash,
        "test_data": on and on.test_data,
        "class_map": on and on.class_map,
        "onset_tolerance_s": on and on.onset_tolerance_s,
        "training_s": run and run.training_s,
        "device": run and run.device,
        "accelerator": run and run.accelerator,
        "devices": run and run.devices,
        "threads": run and run.threads,
        "cost_usd": result.cost_usd,
        **_prefixed("params", comparison.params, values),
        **_prefixed("metrics", comparison.metrics, result.metrics),
    }


def _prefixed(prefix: str, names: Iterable[str], values: Mapping[str, object]) -> dict[str, object]:
    return {f"{prefix}.{name}": values.get(name) for name in names}


def _param_labels(comparison: Comparison) -> dict[str, str]:
    every = [comparison.against, *(row.result for row in comparison.rows)]
    return labels({name for result in every for name in result.params})


def _markdown_cells(result: Result, changed: str, scores: Sequence[str]) -> list[str]:
    return [_code(result.name), changed, *scores, *map(_code, circumstances(result))]


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    # In a span of code GitHub reads neither markup nor the names of people; a pipe would still end the cell.
    plain = " ".join(text.replace("`", "'").replace("|", "\\|").split())
    return f"`{plain}`" if plain else ""


def _escaped(text: str) -> str:
    plain = _MARKUP.sub(
        r"\\\1", html.escape(" ".join(text.split()), quote=False).replace("&lt;", "<").replace("&gt;", ">")
    )
    # A zero-width space: nobody is notified because a fork called an experiment after them.
    return plain.replace("@", "@\u200b")
