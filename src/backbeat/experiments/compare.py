"""Results beside each other: in which parameters they differ, what became of the scores, and whether they compare.

Scores are comparable where they were taken on the same test recordings, of the same classes, with the same parameters
of the evaluation; a comparison says of every other pair why it is none, and which scores are not of the parameters that
stand beside them. What is better than what is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from backbeat.experiments.results import WORKSPACE, Evaluated, Result

# What is looked at first: all hits, kits that training did not hear, rare drums as much as frequent ones, and velocity.
HEADLINE_METRICS = ("test.onset_f1", "held_out_kits.onset_f1", "test.onset_f1_macro", "test.onset_velocity_f1")

# Scores of which more is better, by a word of their last part or of the group that they stand in. Anything else in
# reports/metrics.json (numbers of sequences and onsets, the tolerance) describes the test and is no score.
_HIGHER_IS_BETTER = ("f1", "precision", "recall")

# The test set's parts by whether training heard the kit: other parts where other kits were held out.
_BY_HELD_OUT_KITS = ("held_out_kits.", "seen_kits.")
_HELD_OUT_KITS = "train.held_out_kits"

# So many parameters a warning names.
_MOST_NAMES = 3

# What reports/metrics.json holds is rounded to this; a difference below half of the last digit is none.
DECIMALS = 4

Verdict = Literal["better", "worse", "same"]


@dataclass(frozen=True)
class Row:
    """One result beside the one that it is compared with.

    Args:
        result: the result.
        changed: its values of the parameters in which it differs; None where it does not have the parameter.
        differences: of each metric that both have and that is of the same kits, its value less the other's.
    """

    result: Result
    changed: Mapping[str, object]
    differences: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """Results beside one that they are compared with.

    Args:
        against: the result that all others are compared with.
        rows: the others.
        params: every parameter in which any of them differs, sorted.
        metrics: every metric that any of them has, those that are looked at first in front.
        warnings: why rows cannot be compared, a sentence each.
    """

    against: Result
    rows: tuple[Row, ...]
    params: tuple[str, ...]
    metrics: tuple[str, ...]
    warnings: tuple[str, ...]


def compare(results: Sequence[Result], against: Result) -> Comparison:
    """Put results beside `against`, in their order."""
    rows = tuple(Row(result, _changed(result, against), _differences(result, against)) for result in results)
    return Comparison(
        against=against,
        rows=rows,
        params=tuple(sorted({name for row in rows for name in row.changed})),
        metrics=_metrics([against, *results]),
        warnings=tuple(_warnings(results, against)),
    )


def headline(comparison: Comparison) -> tuple[str, ...]:
    """Return the metrics that are shown where nobody asked for all of them."""
    return tuple(name for name in HEADLINE_METRICS if name in comparison.metrics)


def verdict(metric: str, difference: float) -> Verdict | None:
    """Return what a difference means; None where more is neither better nor worse."""
    words = {word for part in metric.split(".")[1:] for word in part.split("_")}
    if words.isdisjoint(_HIGHER_IS_BETTER):
        return None
    if abs(difference) < 0.5 * 10**-DECIMALS:
        return "same"
    return "better" if difference > 0 else "worse"


def labels(names: Iterable[str]) -> dict[str, str]:
    """Return the shortest ending of each dotted name that no other of them has: `learning_rate`."""
    parts = {name: name.split(".") for name in names}
    return {name: _shortest(name, parts) for name in parts}


def _shortest(name: str, parts: Mapping[str, list[str]]) -> str:
    own = parts[name]
    for length in range(1, len(own)):
        if sum(other[-length:] == own[-length:] for other in parts.values()) == 1:
            return ".".join(own[-length:])
    return name


def _changed(result: Result, against: Result) -> dict[str, object]:
    names = sorted({*result.params, *against.params})
    return {name: result.params.get(name) for name in names if result.params.get(name) != against.params.get(name)}


def _differences(result: Result, against: Result) -> dict[str, float]:
    if _unlike(result, against):
        return {}
    other_kits = _held_out(result) != _held_out(against)
    return {
        name: result.metrics[name] - against.metrics[name]
        for name in result.metrics
        if name in against.metrics and not (other_kits and name.startswith(_BY_HELD_OUT_KITS))
    }


def _held_out(result: Result) -> object:
    """Return the kits that the scored model did not hear, in an order of their own."""
    scored_with = result.evaluated_on.params if result.evaluated_on else {}
    kits = scored_with.get(_HELD_OUT_KITS, result.params.get(_HELD_OUT_KITS))
    return sorted(kits, key=str) if isinstance(kits, list) else kits


def _metrics(results: Sequence[Result]) -> tuple[str, ...]:
    present = dict.fromkeys(name for result in results for name in result.metrics)
    return tuple(dict.fromkeys([*(name for name in HEADLINE_METRICS if name in present), *present]))


def _warnings(results: Sequence[Result], against: Result) -> Iterable[str]:
    for name in dict.fromkeys(one.name for one in [against, *results] if not one.metrics):
        yield _no_metrics(name)
    yield from dict.fromkeys(_not_its_own(one) for one in [against, *results] if _stale(one))
    scored = [one for one in results if one.metrics] if against.metrics else []
    for result in scored:
        yield from _incomparable(result, against)


def _stale(result: Result) -> list[str]:
    """Return the parameters that had other values when the result was evaluated than they have beside it."""
    on = result.evaluated_on if result.metrics else None
    scored_with = {name: value for name, value in on.params.items() if name in result.params} if on else {}
    return sorted(name for name, value in scored_with.items() if value != result.params[name])


def _not_its_own(result: Result) -> str:
    names = _stale(result)
    several = [*names[:_MOST_NAMES], *([f"{len(names) - _MOST_NAMES} more"] if names[_MOST_NAMES:] else [])]
    return (
        f"the scores of {result.name} are not of its parameters: they were made with other values of "
        f"{', '.join(several)}; next: dvc repro there"
    )


def _no_metrics(name: str) -> str:
    if name == WORKSPACE:
        return f"{name} has no scores: it has not been evaluated; next: dvc repro"
    return (
        f"{name} has no scores: reports/metrics.json is not in that commit, so it was not evaluated there, or that was "
        f"not committed; next: dvc exp run in a checkout of it, then dvc exp save or git commit"
    )


def _incomparable(result: Result, against: Result) -> Iterable[str]:
    ours, theirs = result.evaluated_on, against.evaluated_on
    unknown = [one.name for one, on in ((result, ours), (against, theirs)) if on is None or on.test_data is None]
    if unknown:
        yield (
            f"{result.name} and {against.name}: whether they were tested on the same data is not known, "
            f"{' and '.join(unknown)} did not write it down; next: dvc repro there makes an evaluation that does"
        )
    if unlike := _unlike(result, against):
        yield f"{result.name} cannot be compared with {against.name}: it was evaluated on {', '.join(unlike)}"
    kits, other_kits = _held_out(result), _held_out(against)
    if kits != other_kits and any(name.startswith(_BY_HELD_OUT_KITS) for name in result.metrics):
        yield (
            f"{result.name} held out other kits ({_kits(kits)}) than {against.name} ({_kits(other_kits)}): their "
            f"scores by held-out and seen kits are of other recordings and have no difference"
        )


def _unlike(result: Result, against: Result) -> list[str]:
    """Return what two results were evaluated on that is known, and not the same: then no score has a difference."""
    ours, theirs = result.evaluated_on, against.evaluated_on
    if ours is None or theirs is None:
        return []
    return [
        f"{what} ({mine}, not {other})"
        for what, mine, other in _facts(ours, theirs)
        if mine is not None and mine != other
    ]


def _kits(kits: object) -> str:
    return ", ".join(map(str, kits)) or "none" if isinstance(kits, list) else "unknown ones"


def _facts(ours: Evaluated, theirs: Evaluated) -> list[tuple[str, str | None, str | None]]:
    # Where one of the two is unknown, that has been said already.
    known = ours.test_data is not None and theirs.test_data is not None
    pitches, other_pitches = (f"{one.class_map} {(one.class_of_pitch or '')[:8]}" for one in (ours, theirs))
    # One name may stand for other classes by now; results that do not say which ones are told apart by it.
    by_name = ours.class_map != theirs.class_map or ours.class_of_pitch is None or theirs.class_of_pitch is None
    names = sorted(name for name in {*ours.params, *theirs.params} if name.startswith("evaluate."))
    return [
        ("other test data", (ours.test_data or "")[:8] if known else None, (theirs.test_data or "")[:8]),
        ("other classes", *((ours.class_map, theirs.class_map) if by_name else (pitches, other_pitches))),
        ("another tolerance", _tolerance(ours), _tolerance(theirs)),
        *(
            (f"another {name.removeprefix('evaluate.')}", str(ours.params.get(name)), str(theirs.params.get(name)))
            for name in names
            if name != "evaluate.onset_tolerance_s"
        ),
    ]


def _tolerance(evaluated: Evaluated) -> str:
    return f"{evaluated.onset_tolerance_s * 1000:g} ms"
