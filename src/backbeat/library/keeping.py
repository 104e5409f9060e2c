"""Which of several alike is kept, and the groups that follow: stars around their keepers, never chains.

In a chain every file resembles the next one and the last is another sound than the first. Here each member of a group
was compared with the keeper itself, so that keeping the keeper keeps what all of them are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from backbeat.library.settings import KeeperRule

Row = Mapping[str, Any]
Bond = Literal["same_sound", "near"]

# Codecs that leave something out keep no bits of a sample.
_PLAIN_FORMATS = {"WAV", "AIFF", "RF64", "W64"}


@dataclass(frozen=True)
class Rule:
    """One way to tell the better of two files.

    Args:
        value: the larger, the better.
        words: what to say where the first of two is better.
    """

    value: Callable[[Row], float]
    words: Callable[[Row, Row], str]


def _bits(row: Row) -> int:
    bits = row["used_bits"] if row.get("used_bits") is not None else row["bit_depth"]
    return int(bits or 0)


def _bits_text(row: Row) -> str:
    return f"{_bits(row)} bit" if _bits(row) else str(row["subtype"]).title()


def _silence(row: Row) -> float:
    """Return the silence at the head in s; to 10 ms, because its border is a matter of the level, too."""
    return round(float(row.get("leading_silence_s") or 0.0), 2)


def _seconds(row: Row) -> float:
    """Return the length in s without that; a resampler may add a sample."""
    return round(float(row["duration_s"]) - _silence(row), 2)


def _decibels(row: Row) -> float:
    return round(float(row["peak_db"]), 1) if row.get("peak_db") is not None else -1e3


RULES: dict[KeeperRule, Rule] = {
    "bit_depth": Rule(_bits, lambda one, other: f"{_bits_text(one)} over {_bits_text(other)}"),
    "sample_rate_hz": Rule(
        lambda row: float(row["sample_rate_hz"]),
        lambda one, other: f"{one['sample_rate_hz'] / 1000:g} kHz over {other['sample_rate_hz'] / 1000:g} kHz",
    ),
    "sounding_s": Rule(_seconds, lambda one, other: f"{_seconds(one):g} s of sound over {_seconds(other):g} s"),
    "starts_at_once": Rule(
        lambda row: -_silence(row),
        lambda one, other: f"{_silence(one):g} s of silence before it, not {_silence(other):g} s",
    ),
    "louder": Rule(_decibels, lambda one, other: f"a peak of {_decibels(one):g} dB over {_decibels(other):g} dB"),
    "unclipped": Rule(
        lambda row: -float(row["clipped_samples"] or 0),
        lambda one, other: f"{one['clipped_samples'] or 0} clipped samples over {other['clipped_samples']}",
    ),
    "uncompressed": Rule(
        lambda row: float(row["format"] in _PLAIN_FORMATS), lambda one, other: f"{one['format']} over {other['format']}"
    ),
}


def best_first(rows: Iterable[Row], rules: Sequence[KeeperRule]) -> list[Row]:
    """Return rows of the scan's table, the one that is kept first; what the rules leave open the name decides."""
    values = [RULES[rule].value for rule in rules if rule in RULES]
    return sorted(rows, key=lambda row: (*(-value(row) for value in values), row["sample"]))


def reason(one: Row, other: Row, rules: Sequence[KeeperRule]) -> str:
    """Return in words why the first of two is kept: the first rule in which they differ."""
    for name in rules:
        rule = RULES.get(name)
        if rule is not None and rule.value(one) != rule.value(other):
            return rule.words(one, other)
    return "the same quality; the first by name"


def stars(ranked: Sequence[str], bonds: Mapping[frozenset[str], Bond]) -> dict[str, dict[str, Bond]]:
    """Return the groups: for each sound that is kept, the others that it stands for.

    Args:
        ranked: sounds, the best first.
        bonds: of which pairs it was shown how they are alike.
    """
    neighbors: dict[str, dict[str, Bond]] = {}
    for pair, bond in bonds.items():
        one, other = sorted(pair)
        neighbors.setdefault(one, {})[other] = bond
        neighbors.setdefault(other, {})[one] = bond
    groups: dict[str, dict[str, Bond]] = {}
    taken: set[str] = set()
    for sound in ranked:
        if sound not in taken:
            same = {at for at, bond in neighbors.get(sound, {}).items() if bond == "same_sound"} - taken
            groups[sound] = dict.fromkeys(sorted(same), "same_sound")
            taken |= {sound, *same}
    # A group goes into a better one that is near to it if every member of it is near to that keeper.
    rank = {sound: at for at, sound in enumerate(ranked)}
    for keeper in ranked:
        near = neighbors.get(keeper, {})
        for other in sorted((at for at in near if rank[at] > rank[keeper]), key=rank.__getitem__):
            if keeper in groups and other in groups and {other, *groups[other]} <= near.keys():
                groups[keeper] |= {member: near[member] for member in sorted({other, *groups.pop(other)})}
    return {keeper: members for keeper, members in groups.items() if members}
