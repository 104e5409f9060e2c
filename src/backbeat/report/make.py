"""The page itself: results, what is behind them, sequences with their sound, and where everything came from.

One file without a reference to another one: style, script, pictures and sounds are in it, and its own content security
policy forbids it to ask anybody for anything. Equal inputs give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from backbeat.datasets.licenses import attribution
from backbeat.datasets.registry import load_record
from backbeat.experiments import tables
from backbeat.experiments.compare import Comparison, compare, headline, labels, verdict
from backbeat.experiments.results import WORKSPACE, Result, read_experiments, read_result
from backbeat.provenance import git_revision
from backbeat.report import content
from backbeat.report.evaluation import Evaluation, read_evaluation
from backbeat.report.hits import LONGEST_S
from backbeat.report.listening import Absent, listen
from backbeat.storage.staging import new_file

REPORT_FILE = "reports/report.html"

_PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Page:
    """What was made.

    Args:
        path: the file.
        size_bytes: its size.
        sequences: how many sequences are shown.
        absent: what is not, and why.
        warnings: what on the page does not belong together, a sentence each.
    """

    path: Path
    size_bytes: int
    sequences: int
    absent: tuple[Absent, ...]
    warnings: tuple[str, ...]


def make_report(
    project: Path,
    names: Sequence[str] = (),
    *,
    against: str = "main",
    every_experiment: bool = False,
    output: Path | None = None,
    embed_restricted: bool = False,
) -> Page:
    """Write a page about results, the first of which it shows in detail.

    Args:
        project: root of the repository.
        names: revisions, experiments, or `workspace`; default: the workspace.
        against: what they are compared with.
        every_experiment: whether every experiment of this clone is a row of the comparison, too.
        output: the file to write; default: `reports/report.html`.
        embed_restricted: whether data that its license forbids to hand on is put into the page all the same.

    Raises:
        ExperimentError: if there is no such revision or experiment, or one of its files cannot be read.
        ConfigError: if the dataset that the first result was evaluated on has no record.
    """
    results = [read_result(project, name) for name in dict.fromkeys(names or [WORKSPACE])]
    unreadable: list[str] = []
    if every_experiment:
        found, unreadable = read_experiments(project)
        results += _others(found, results)
    comparison = compare(results, read_result(project, against))
    comparison = replace(comparison, warnings=(*comparison.warnings, *unreadable))
    html, sequences, absent = _html(project, comparison, embed_restricted=embed_restricted)
    path = output or project / REPORT_FILE
    with new_file(path) as part:
        part.write_bytes(html)
    return Page(path, len(html), sequences, absent, comparison.warnings)


def _others(found: Sequence[Result], results: Sequence[Result]) -> list[Result]:
    """Return those found that are not among the results; experiments that share a name go by their commits."""
    times, listed = Counter(one.name for one in found), {one.revision for one in results}
    return [
        one if times[one.name] == 1 else replace(one, name=str(one.revision)[:12])
        for one in found
        if one.revision not in listed
    ]


def _html(project: Path, comparison: Comparison, *, embed_restricted: bool) -> tuple[bytes, int, tuple[Absent, ...]]:
    result = comparison.rows[0].result
    evaluation = read_evaluation(project, result)
    # Of what was evaluated, whatever the parameters say by now: it is what the page shows and what it may hand on.
    record = load_record(project, evaluation.provenance.dataset if evaluation else result.dataset)
    shown, absent = listen(project, evaluation, record, embed_restricted=embed_restricted)
    others = [row.result for row in comparison.rows[1:]]
    script = (_PAGE / "script.js").read_text(encoding="utf-8")
    headlines = content.headlines(comparison, result)
    classes, kits = content.kits(evaluation) if evaluation else ((), ())
    html = _environment().get_template("page.html.j2").render(
        record=record,
        attribution=attribution(record),
        result=result,
        comparison=comparison,
        table=_table(comparison),
        headlines=headlines,
        standing=content.standing(headlines, comparison.against),
        evaluation=evaluation,
        curves=content.training_curves(project, [result, comparison.against, *others]),
        by_class=content.class_chart(evaluation) if evaluation else None,
        classes=classes,
        kits=kits,
        thresholds=content.threshold_chart(project, result, evaluation) if evaluation else None,
        excerpts=shown,
        longest_s=LONGEST_S,
        absent=absent,
        origin=_origin(project, result, evaluation),
        style=Markup((_PAGE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704 - a file of this package
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    return html.encode(), len(shown), absent


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    environment.filters["words"] = content.words
    environment.filters["signed"] = lambda value: f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
    environment.filters["shade"] = _shade
    environment.filters["value"] = tables.value_text
    return environment


def _shade(f1: float) -> str:
    """Return how strongly a cell is tinted: what differs lies above 0.4, and text stays readable on the strongest."""
    return f"{0.5 * max(0.0, f1 - 0.4) / 0.6:.2f}"


@dataclass(frozen=True)
class _Cell:
    """A cell of the comparison: what it says, what it is sorted by, and what its difference means."""

    text: str
    key: object
    difference: str = ""
    verdict: str | None = None


def _table(comparison: Comparison) -> dict[str, Any]:
    """Return columns and rows of the comparison; the first row is what the others are compared with."""
    metrics, named = headline(comparison), labels(comparison.params)
    columns = ["name", *map(_metric_label, metrics), *(content.words(named[name]) for name in comparison.params)]
    rows = []
    for row in (None, *comparison.rows):
        result = comparison.against if row is None else row.result
        cells = [_Cell(result.name, result.name)]
        for name in metrics:
            difference = row.differences.get(name) if row else None
            meaning = verdict(name, difference) if difference is not None else None
            text = tables.difference(row, name) if row else ""
            cells.append(_Cell(tables.score(result, name), result.metrics.get(name, ""), text, meaning))
        cells += [_value(result.params.get(name)) for name in comparison.params]
        data, training, device, cost = tables.circumstances(result)
        took_s = result.training.training_s if result.training else ""
        price = "" if result.cost_usd is None else result.cost_usd
        cells += [_Cell(data, data), _Cell(training, took_s), _Cell(device, device), _Cell(cost, price)]
        rows.append(cells)
    return {"columns": [*columns, *tables.CIRCUMSTANCES], "rows": rows}


def _metric_label(name: str) -> str:
    group, _, metric = name.partition(".")
    label = {
        "onset_f1": "onset F1", "onset_f1_macro": "F1, mean of classes", "onset_velocity_f1": "F1 with velocity",
    }.get(metric, content.words(metric))  # fmt: skip
    return label if group == "test" else f"{label}, {content.GROUPS.get(group, content.words(group))}"


def _value(value: object) -> _Cell:
    text = tables.value_text(value)
    return _Cell(text, value if isinstance(value, int | float) else text)


def _origin(project: Path, result: Result, evaluation: Evaluation | None) -> dict[str, str]:
    """Return what the result came from, by what it is called."""
    said = evaluation.provenance if evaluation else None
    _, training, device, cost = tables.circumstances(result)
    facts = {
        "Revision": result.revision or git_revision(project),
        "Evaluated at": said and said.revision,
        "Dataset": said.dataset if said else result.dataset,
        "License": said and said.license,
        "Shards (content)": said and said.data,
        "Shards (DVC)": result.data_hash if said is None or said.dataset == result.dataset else None,
        "Test recordings": said and said.test_data,
        "Model": said and said.model,
        "Class map": said and said.class_map,
        "Training time": training,
        "Device": device,
        "Cost": cost,
    }
    return {name: value or "not known" for name, value in facts.items()}
