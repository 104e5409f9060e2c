"""`python -m bench [QUESTION …] [--runs N]`: measure, print a table, write `reports/benchmarks.json`."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.material import REPOSITORY
from bench.measure import Result
from bench.questions import QUESTIONS, on_two_processors

REPORT = REPOSITORY / "reports" / "benchmarks.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"any of: {', '.join(QUESTIONS)}")
    parser.add_argument("--runs", type=int, default=5, help="rounds that count; the median of them is the answer")
    parser.add_argument("--show", action="store_true", help="measure nothing, print the last report")
    arguments = parser.parse_args()
    unknown = set(arguments.questions) - set(QUESTIONS)
    if unknown:
        parser.error(f"no such question: {', '.join(sorted(unknown))}")
    if not arguments.show:
        measure(arguments.questions or list(QUESTIONS), arguments.runs)
    Console().print(table([Result(**row) for row in json.loads(REPORT.read_text())]))


def measure(questions: list[str], runs: int) -> None:
    on_two_processors()
    kept = [Result(**row) for row in json.loads(REPORT.read_text())] if REPORT.exists() else []
    results = {question: [row for row in kept if row.question == question] for question in QUESTIONS}
    with tempfile.TemporaryDirectory() as folder:
        for question in questions:
            results[question] = []
            for result in QUESTIONS[question](Path(folder), runs):
                results[question].append(result)
                Console(stderr=True).print(
                    f"{question}: {result.case}: {result.ratio:.3g} ({result.bar})", highlight=False
                )
    rows = [asdict(result) for listed in results.values() for result in listed]
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def table(results: list[Result]) -> Table:
    shown = Table("question", "peer and case", "ours", "peer", "unit", "ratio", "bar", "met", box=None, pad_edge=False)
    for column in (2, 3, 5):
        shown.columns[column].justify = "right"
    for row in results:
        figures = (f"{row.ours:,.4g}", f"{row.peer:,.4g}", row.unit, f"{row.ratio:.3g}")
        shown.add_row(row.question, row.case, *figures, row.bar, "yes" if row.met else "no")
    return shown


if __name__ == "__main__":
    main()
