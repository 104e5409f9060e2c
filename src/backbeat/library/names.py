"""What the name of a sample says: its class, whether it is a loop, its tempo.

A path is cut into words at whatever is not a letter or a digit, between letters and digits, and where a small letter
is followed by a capital one. The file's own name counts before its folders, the nearest folder before the others; a
whole word counts before an abbreviation of two letters, which may mean something else.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

HATS = ("closed_hat", "open_hat")
CYMBALS = ("crash", "ride")

# What one word says. `808` is the machine as well as its bass, and a pad may be ambient: they count where nothing else
# is said.
_WORDS: dict[tuple[str, ...], str] = {
    ("kick",): "kick kicks kik kck kickdrum kickdrums bassdrum bassdrums drumbass",
    ("snare",): "snare snares snr snrs",
    ("clap",): "clap claps clp handclap handclaps snap snaps",
    ("rim",): "rim rims rimshot rimshots sidestick sidesticks",
    ("closed_hat",): "closedhat closedhats hhc chh",
    ("open_hat",): "openhat openhats hho ohh",
    HATS: "hat hats hihat hihats",
    ("tom",): "tom toms floortom",
    ("crash",): "crash crashes splash china",
    ("ride",): "ride rides",
    CYMBALS: "cymbal cymbals cym",
    ("cowbell",): "cowbell cowbells cow",
    ("shaker",): "shaker shakers shk shake maraca maracas cabasa tambourine tamb",
    ("perc",): "perc percs percussion conga congas bongo bongos tabla tablas clave claves woodblock triangle agogo "
    "timbale timbales djembe",
    ("bass",): "bass basses sub subs subbass reese",
    ("tonal",): "stab stabs chord chords pluck plucks lead leads synth synths pad pads piano guitar guit organ keys "
    "strings brass bell bells",
    ("fx",): "fx sfx riser risers sweep sweeps impact impacts noise vinyl scratch swoosh whoosh glitch foley atmo",
}
_ABBREVIATIONS: dict[tuple[str, ...], str] = {
    ("kick",): "bd",
    ("snare",): "sd sn",
    ("clap",): "cp",
    ("rim",): "rs",
    ("closed_hat",): "ch",
    ("open_hat",): "oh",
    HATS: "hh",
    ("crash",): "cr",
    ("cowbell",): "cb",
}
_WIDE = {("perc",), ("tonal",), ("bass",), ("fx",)}
_LAST: dict[tuple[str, ...], str] = {("bass",): "808 808s", ("fx",): "ambi ambient ambience"}
_CLOSED, _OPEN = {"closed", "cl", "clsd", "pedal"}, {"open", "op"}

_SAYS = {
    "loop": "loop loops break breaks breakbeat breakbeats beat beats groove grooves bpm",
    "one-shot": "shot shots oneshot oneshots hit hits",
    "drums": "drum drums break breaks breakbeat beat beats perc percussion top tops hats groove",
    "melodic": "melody melodic chord chords bass guitar piano synth pad keys arp lead strings drone",
}

_BPM = re.compile(r"(?<![\d.])(\d{2,3}(?:\.\d{1,2})?)[\s_-]*bpm|bpm[\s_-]*(\d{2,3}(?:\.\d{1,2})?)(?!\d)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\d.])(\d{2,3})(?![\d.])")
_LOWEST_BPM, _HIGHEST_BPM = 40.0, 250.0


@dataclass(frozen=True)
class ClassHint:
    """Which classes a name allows, and how much it says so (0 to 1)."""

    classes: tuple[str, ...]
    weight: float


@dataclass(frozen=True)
class TempoHint:
    """A tempo in a name; `is_said` where `bpm` stands beside it, else it is a number that may be one."""

    bpm: float
    is_said: bool


@dataclass(frozen=True)
class NameHints:
    """What the names of a sound say.

    Args:
        sound_class: the first hint at a class.
        says: which of `loop`, `one-shot`, `drums`, `melodic` are in any of them.
        tempi: in the order of the names.
    """

    sound_class: ClassHint | None
    says: frozenset[str]
    tempi: tuple[TempoHint, ...]


def read_names(paths: Iterable[str]) -> NameHints:
    """Return what the paths of a sound say, the first of them that says something before the others.

    Args:
        paths: with `/`, each below its source.
    """
    listed = list(paths)
    words = {word for path in listed for part in _parts(path) for word in part}
    first = next(filter(None, map(_class_hint, listed)), None)
    return NameHints(
        first,
        frozenset(what for what, said in _SAYS.items() if not words.isdisjoint(said.split())),
        tuple(dict.fromkeys(hint for path in listed for hint in _tempo_hints(path))),
    )


def _parts(path: str) -> list[list[str]]:
    """Return the words of the file's name, then those of its folders from the nearest on."""
    pure = PurePosixPath(path)
    parts = [pure.stem, *reversed(pure.parent.parts)]
    return [[word.lower() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|\d+s?", part)] for part in parts]


def _class_hint(path: str) -> ClassHint | None:
    parts = _parts(path)
    for depth, words in enumerate(parts):
        nearness = 1.0 if depth == 0 else 0.8 if depth == 1 else 0.6
        for table, weight in ((_WORDS, 1.0), (_ABBREVIATIONS, 0.6), (_LAST, 0.7)):
            classes = _said(words, table)
            if classes:
                # `Kicks/bd_boom`: a folder that says the same in full leaves no doubt about an abbreviation.
                agreed = any(_said(above, _WORDS) == classes for above in parts[depth + 1 :])
                return ClassHint(_told_apart(classes, words), max(weight, float(agreed)) * nearness)
    return None


def _said(words: list[str], table: dict[tuple[str, ...], str]) -> tuple[str, ...]:
    joined = [*words, *("".join(pair) for pair in itertools.pairwise(words))]
    places = {classes: [joined.index(word) for word in listed.split() if word in joined] for classes, listed in
              table.items()}  # fmt: skip
    said = sorted((min(at), classes) for classes, at in places.items() if at)
    # `perc_bell` and `bass drum`: the narrower word was meant. Of two of a kind, the first.
    return next((classes for _, classes in said if classes not in _WIDE), said[0][1] if said else ())


def _told_apart(classes: tuple[str, ...], words: list[str]) -> tuple[str, ...]:
    if classes in {HATS, CYMBALS} and set(words) & _CLOSED:
        return ("closed_hat",)
    return ("open_hat",) if classes == HATS and set(words) & _OPEN else classes


def _tempo_hints(path: str) -> Iterator[TempoHint]:
    for match in _BPM.finditer(path):
        bpm = float(match[1] or match[2])
        if _LOWEST_BPM <= bpm <= _HIGHEST_BPM:
            yield TempoHint(bpm, is_said=True)
    for match in _NUMBER.finditer(PurePosixPath(path).stem):
        if 60 <= float(match[1]) <= 200:
            yield TempoHint(float(match[1]), is_said=False)
