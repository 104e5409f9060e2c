"""Performances: human drumming as notes, without a drummer and without a sound.

A groove is written the way a drummer thinks: one string per limb (right hand, left hand, right foot, left foot),
one character per step of the bar, a dot for rest. `STROKES` says what a character plays and how hard.
Three things make a performance of it:

* choice: fills are put together from one-beat cells; ghost notes and doubled hits come and go, and a crash ends it;
* feel: each drummer pushes or drags, scatters, swings and accents in their own way, each limb has its own bias,
  the tempo wanders by about a percent, fills grow louder;
* rounding: an onset is a whole number of MIDI ticks. What plays these notes plays exactly these times.

`performance(index)` is a pure function of the index: a longer dataset begins with all of a shorter one, and twenty
consecutive performances hold all the styles and have 14 of their number in train, 3 in validation, 3 in test. As in
E-GMD the split belongs to the performance, and a drummer is not confined to one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

TICKS_PER_BEAT = 480
"""MIDI resolution, per quarter note."""

SPLITS = ("train", "validation", "test")

SEED = 20_240_229
"""Changes every random number of the dataset, and so its hash."""

PERFORMANCE, SOUND = 0, 1
"""First keys of random numbers: what is played does not depend on how it sounds."""


@dataclass(frozen=True)
class Stroke:
    """What a character of a groove plays: a Roland pitch, its usual velocity, and grace notes before it."""

    pitch: int
    velocity: int
    graces: int = 0


STROKES = {
    "k": Stroke(36, 78), "K": Stroke(36, 104),
    "s": Stroke(38, 84), "S": Stroke(38, 110), "g": Stroke(38, 26), "R": Stroke(40, 116), "c": Stroke(37, 76),
    "f": Stroke(38, 108, graces=1), "d": Stroke(38, 96, graces=2),
    "1": Stroke(48, 94), "!": Stroke(50, 114), "2": Stroke(45, 94), "@": Stroke(47, 114),
    "3": Stroke(43, 98), "#": Stroke(58, 116),
    "h": Stroke(42, 58), "H": Stroke(22, 92), "o": Stroke(46, 76), "O": Stroke(26, 106), "p": Stroke(44, 66),
    "r": Stroke(51, 68), "e": Stroke(59, 92), "b": Stroke(53, 96),
    "x": Stroke(49, 92), "X": Stroke(55, 114), "y": Stroke(57, 88), "Y": Stroke(52, 112),
}  # fmt: skip
"""Lower case is a normal stroke, upper case an accent; digits are tom heads, their shifted signs the rims."""


@dataclass(frozen=True)
class Groove:
    """A bar for four limbs.

    Args:
        meter: E-GMD's notation, `4-4` or `6-8`.
        swing: delay of every second step, as a fraction of a step; None where the steps are triplets.
        limbs: right hand, left hand, right foot, left foot; one character per step of the bar.
    """

    meter: str
    swing: float | None
    limbs: tuple[str, str, str, str]

    @property
    def beats(self) -> float:
        """Quarter notes in a bar."""
        count, unit = self.meter.split("-")
        return 4 * int(count) / int(unit)


GROOVES = {
    "rock": Groove("4-4", 0.0, ("H.h.h.h.H.h.h.o.", "....R..g.g..S..g", "K.....k.K.k.....", "..............p.")),
    "rock/ride": Groove("4-4", 0.0, ("b.r.e.r.b.r.e.r.", "....S..g....R.g.", "K..k..k.K.....k.", "....p.......p...")),
    "funk": Groove("4-4", 0.1, ("H.hhH.hhH.hhHo.h", "....R..g.g.gS..g", "K.k....k..K..k..", "..............p.")),
    "hiphop": Groove("4-4", 0.3, ("h.h.h.h.h.h.h.O.", "....S..g....R..g", "K......kk.K.....", "p...............")),
    "jazz/swing": Groove("4-4", None, ("r..e.rr..e.r", "..g...c.g..s", "k..k..k..k..", "...p.....p..")),
    "jazz/waltz": Groove("3-4", 0.15, ("e.r.r.r.r.b.", "..g.s..g..1.", "K.......k...", "....p...p...")),
    "latin/bossa": Groove("4-4", 0.0, ("h.hhh.hhh.hhh.hh", "c..c..c...c..c..", "K..kK..kK..kK..k", "................")),
    "latin/songo": Groove(
        "4-4", 0.05, ("b.r.b.r.b.b.r.b.", "..gc..s.g.1..2#.", "...k..K....k..K.", "p...p...p...p...")
    ),
    "afrobeat": Groove("4-4", 0.08, ("r.rbr.rer.rbr.re", "g..c..s.g.3.s.#.", "K...k.k...K..k..", "..p...p...p...p.")),
    "afrocuban/bell": Groove("6-8", None, ("b.b.bb.b.b.b", "..g..c..2.1.", "K..k..K.....", "...p..p..p..")),
    "punk": Groove("4-4", 0.0, ("O.O.O.O.X.O.O.O.", "....S.......R...", "KkkkK.k.KkkkK.k.", "................")),
    "dance": Groove("4-4", 0.0, ("..o...O...o...O.", "....S..g....R...", "K...K...K...K..k", "p...p...p...p...")),
    "reggae": Groove("4-4", 0.2, ("h.h.hoh.h.h.H.h.", "c.....c.R.g...!.", "........K.......", "................")),
}
_FILL_CELLS = (
    ("1.1!", "s.s.", "k...", "...."), ("2.@.", "..s.", "k.k.", "...."), ("3.#.", ".3..", "..k.", "...."),
    ("1.2.", ".1.2", "k..k", "...."), ("f...", "..gg", "..k.", "p..."), ("R.s.", ".s.s", "k...", "...."),
    ("2.3.", ".2.3", "..K.", "...."), ("!.@.", "....", ".k.k", "p..."), ("d.1.", "...2", "k...", "..p."),
    ("Y...", "..ss", "K...", "...."), ("#.3.", "s.s.", ".k.k", "...."), ("O...", "s.f.", "K.k.", "..p."),
)  # fmt: skip
_CRASHES = "xXyY"


@dataclass(frozen=True)
class Drummer:
    """How one person plays.

    Args:
        push_s: seconds by which everything comes early (negative: late).
        scatter_s: standard deviation of a stroke's time.
        swing: steps of additional swing.
        accent: how much accents stand out, as an exponent on velocity.
        bounce: chance that a stroke falls twice.
        ghosts: chance that a written ghost note is played.
    """

    push_s: float
    scatter_s: float
    swing: float
    accent: float
    bounce: float
    ghosts: float


DRUMMERS = {
    1: Drummer(0.003, 0.004, 0.00, 1.0, 0.010, 0.90),
    2: Drummer(-0.008, 0.008, 0.08, 1.3, 0.020, 0.95),
    3: Drummer(0.010, 0.006, 0.02, 0.8, 0.030, 0.60),
    5: Drummer(-0.004, 0.011, 0.12, 1.1, 0.025, 0.85),
    7: Drummer(0.000, 0.006, 0.05, 1.5, 0.015, 0.75),
}
_LIMB_BIAS_S = (0.0, 0.005, -0.004, 0.003)  # the snare drum a little late, the bass drum a little early

# split, drummer, style, tempo in beats per minute, bars (0: a fill)
_PLAN = (
    ("train", 1, "rock", 120, 2), ("validation", 2, "funk", 106, 2), ("test", 7, "hiphop", 104, 2),
    ("train", 3, "punk", 168, 2), ("train", 5, "jazz/swing", 160, 2), ("train", 2, "hiphop", 100, 0),
    ("train", 1, "latin/bossa", 138, 2), ("train", 7, "afrobeat", 124, 2), ("validation", 5, "latin/songo", 120, 0),
    ("test", 1, "funk", 102, 0), ("train", 3, "rock", 96, 0), ("train", 2, "funk", 112, 1),
    ("train", 5, "jazz/waltz", 132, 2), ("train", 1, "dance", 128, 1), ("train", 7, "rock/ride", 132, 0),
    ("train", 3, "afrocuban/bell", 116, 2), ("train", 2, "reggae", 84, 1), ("test", 5, "latin/songo", 108, 1),
    ("validation", 1, "afrobeat", 112, 1), ("train", 7, "rock/ride", 116, 2),
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Note:
    """One stroke: its time in MIDI ticks from the beginning, its Roland pitch and its velocity (1 to 127)."""

    tick: int
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Performance:
    """What one person played in one go: the unit that belongs to a split and that every kit renders."""

    index: int
    drummer: int
    session: str
    style: str
    tempo_bpm: int
    beat_type: str
    meter: str
    split: str
    notes: tuple[Note, ...]

    @property
    def number(self) -> int:
        """E-GMD's running number of the performance."""
        return self.index + 1

    @property
    def tempo_us(self) -> int:
        """Microseconds per quarter note, as MIDI writes a tempo."""
        return round(60_000_000 / self.tempo_bpm)

    @property
    def stem(self) -> str:
        """E-GMD's path of the performance, without kit number and suffix."""
        name = f"{self.number}_{self.style.replace('/', '-')}_{self.tempo_bpm}_{self.beat_type}_{self.meter}"
        return f"drummer{self.drummer}/{self.session}/{name}"

    def onset_s(self, note: Note) -> float:
        """The time of a note in seconds, exactly as a reader of the MIDI file computes it."""
        return note.tick * self.tempo_us / (1_000_000 * TICKS_PER_BEAT)


def generator(*key: int) -> np.random.Generator:
    """A source of random numbers that depends on `SEED` and the key and on nothing else."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((SEED, *key))))


def performance(index: int) -> Performance:
    """Play performance `index`, counted from 0; the same index is the same performance for ever."""
    split, drummer, style, tempo_bpm, bars = _PLAN[index % len(_PLAN)]
    rng = generator(PERFORMANCE, index)
    if index >= len(_PLAN):
        tempo_bpm = round(tempo_bpm * rng.uniform(0.85, 1.2))
    groove = GROOVES[style] if bars else _fill(rng)
    strokes = [
        note
        for limb in range(len(groove.limbs))
        for note in _play(groove, limb, max(bars, 1), tempo_bpm, DRUMMERS[drummer], crescendo=not bars, rng=rng)
    ]
    return Performance(
        index=index,
        drummer=drummer,
        session="eval_session" if split == "test" else f"session{1 + index % 3}",
        style=style,
        tempo_bpm=tempo_bpm,
        beat_type="beat" if bars else "fill",
        meter=groove.meter,
        split=split,
        notes=_quantize(strokes, tempo_bpm, lead_s=rng.uniform(0.06, 0.3), rng=rng),
    )


def performances(count: int) -> list[Performance]:
    """The first `count` performances, in the order in which their members stand in an archive."""
    return sorted((performance(index) for index in range(count)), key=lambda played: played.stem)


def _fill(rng: np.random.Generator) -> Groove:
    """A bar of four cells, chosen at random."""
    cells = [_FILL_CELLS[i] for i in rng.permutation(len(_FILL_CELLS))[:4]]
    right, left, foot, pedal = ("".join(cell[limb] for cell in cells) for limb in range(4))
    return Groove("4-4", 0.0, (right, left, foot, pedal))


def _play(
    groove: Groove, limb: int, bars: int, tempo_bpm: int, drummer: Drummer, *, crescendo: bool, rng: np.random.Generator
) -> Iterator[tuple[float, int, float]]:
    """Play one limb: times in seconds from the written beginning, pitches, velocities before rounding."""
    line = groove.limbs[limb] * bars
    step_s = groove.beats * 60 / tempo_bpm / len(groove.limbs[limb])
    if limb == 0:
        opening, ending = rng.integers(len(_CRASHES), size=2)
        line = (_CRASHES[opening] if rng.random() < 0.5 else line[0]) + line[1:] + _CRASHES[ending]
    elif limb == 2:
        line += "K"
    for step, character in enumerate(line):
        if character == "." or (character == "g" and rng.random() > drummer.ghosts):
            continue
        stroke = STROKES[character]
        swung = step + (0.0 if groove.swing is None else (groove.swing + drummer.swing) * (step % 2))
        time_s = swung * step_s + _LIMB_BIAS_S[limb] - drummer.push_s + drummer.scatter_s * rng.standard_normal()
        weight = (1.06 if step % 4 == 0 else 0.94) * (0.6 + 0.45 * step / len(line) if crescendo else 1.0)
        velocity = 90 * (stroke.velocity / 90) ** drummer.accent * weight * (1 + 0.08 * rng.standard_normal())
        for grace in range(stroke.graces):
            yield time_s - (grace + 1) * rng.uniform(0.022, 0.036), stroke.pitch, 0.4 * velocity
        yield time_s, stroke.pitch, velocity
        if limb < 3 and rng.random() < drummer.bounce:
            yield time_s + rng.uniform(0.045, 0.075), stroke.pitch, 0.55 * velocity


def _quantize(
    strokes: list[tuple[float, int, float]], tempo_bpm: int, *, lead_s: float, rng: np.random.Generator
) -> tuple[Note, ...]:
    """Let the tempo wander and round times to ticks, velocities to 1..127; of two equal strokes the louder stays."""
    ticks_per_s = tempo_bpm / 60 * TICKS_PER_BEAT
    depth, phase, period_s = rng.uniform(0.003, 0.012), rng.uniform(0, 2 * np.pi), rng.uniform(3, 8)
    rate = 2 * np.pi / period_s
    loudest: dict[tuple[int, int], int] = {}
    for time_s, pitch, velocity in strokes:
        wandered_s = time_s + depth / rate * (np.sin(rate * time_s + phase) - np.sin(phase))
        key = max(0, round((lead_s + wandered_s) * ticks_per_s)), pitch
        loudest[key] = max(loudest.get(key, 1), min(127, round(velocity)))
    return tuple(sorted(Note(tick, pitch, velocity) for (tick, pitch), velocity in loudest.items()))
