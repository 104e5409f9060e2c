"""The quality of a sample as a number from 0 to 100: points by the rules of `configs/library.yaml`, each one shown.

A rule gives all its points for a value that is `good` or better, none for one that is `bad` or worse, and in proportion
between them; no rule gives a larger share than one that is `vital`. The values are columns of the tables scan and
descriptors, and these:

- `clipped_per_million`: samples in runs at full scale, in a million samples of all channels.
- `dc_offset_size`: the size of the mean, of full scale.
- `length_outside_octaves`: how far the length is outside of what `curate.sensible_s` says of its class, in octaves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from backbeat.errors import ConfigError
from backbeat.library.settings import LIBRARY_FILE, CurateSettings, QualityRule
from backbeat.library.tables import CURATION, DESCRIPTORS_TABLE, SCAN

DERIVED = ("clipped_per_million", "dc_offset_size", "length_outside_octaves")

Values = Mapping[str, Any]


def check_rules(rules: Iterable[QualityRule]) -> None:
    """Check that each rule is about a number that there is, and that no two columns of the table have its name.

    Raises:
        ConfigError: if not, with the rule.
    """
    numbers = {
        field.name
        for field in [*SCAN, *DESCRIPTORS_TABLE]
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)
    }
    for rule in rules:
        if rule.column not in {*numbers, *DERIVED}:
            raise ConfigError(
                f"the rule {rule.name} in {LIBRARY_FILE} is about {rule.column}",
                expected="a number of the tables scan or descriptors, or " + ", ".join(DERIVED),
                got="no such column",
                next_step="correct its `column`",
            )
        if rule.name in CURATION.names:
            raise ConfigError(f"a rule in {LIBRARY_FILE} cannot be called {rule.name}", next_step="name it differently")


def values_of(sample: Values, sound: Values, sound_class: str, settings: CurateSettings) -> dict[str, Any]:
    """Return all that rules can be about.

    Args:
        sample: its row of the table scan.
        sound: that of its sound in the table descriptors; empty if there is none.
        sound_class: what it is.
        settings: with the sensible lengths of each class.
    """
    low_s, high_s = settings.sensible_s.get(sound_class, settings.sensible_s["default"])
    duration_s = sample["duration_s"]
    return {
        **sound,
        **sample,
        "clipped_per_million": _per_million(sample),
        "dc_offset_size": None if sample["dc_offset"] is None else abs(sample["dc_offset"]),
        "length_outside_octaves": max(0.0, math.log2(low_s / duration_s), math.log2(duration_s / high_s))
        if duration_s
        else None,
    }


def points_of(rules: Iterable[QualityRule], values: Values) -> dict[str, float]:
    """Return the points that each rule gives, by its name; their sum is the score."""
    shares = {rule: _share(rule, values) for rule in rules}
    most = min((share for rule, share in shares.items() if rule.vital), default=1.0)
    return {rule.name: round(rule.points * min(share, most), 3) for rule, share in shares.items()}


def _share(rule: QualityRule, values: Values) -> float:
    if rule.only is not None and values.get("kind") != rule.only:
        return 1.0
    value = values.get(rule.column)
    if value is None:
        return rule.missing
    return min(1.0, max(0.0, (float(value) - rule.bad) / (rule.good - rule.bad)))


def _per_million(sample: Values) -> float | None:
    if sample["clipped_samples"] is None or not sample["frames"]:
        return None
    return float(1e6 * sample["clipped_samples"] / (sample["frames"] * sample["channels"]))
