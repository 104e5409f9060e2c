"""Kits: which sounds a drum set has, tuned, damped, equalized and balanced as nobody has heard it before.

A kit begins with one source, some groups of its pieces are of another one, and some have the sound of another one
laid over their own: that is how hundreds of kits come from thirty sources. All draws are made from the seed, the role
and the number of the kit, whatever else is rendered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backbeat.rendering.bank import SAMPLE_RATE_HZ, Audio, Bank, OneShot
from backbeat.rendering.equalizer import filtered, tilt_and_bell
from backbeat.rendering.recipe import KitDraws, Range

GROUPS: dict[str, tuple[str, ...]] = {
    "kick": ("kick",),
    "snare": ("snare", "snare_rim", "cross_stick"),
    "toms": ("tom_high", "tom_mid", "tom_low"),
    "hats": ("hat_closed", "hat_open", "hat_pedal"),
    "ride": ("ride", "bell"),
    "crashes": ("crash",),
}
"""What is bought, and so exchanged, together."""

# What stands in for a piece that a source lacks, with a ratio on its tuning; the first one that is there.
_ALIKE: dict[str, tuple[tuple[str, float], ...]] = {
    "snare_rim": (("snare", 1.06),),
    "tom_high": (("tom_mid", 1.22), ("tom_low", 1.5)),
    "tom_mid": (("tom_high", 0.82), ("tom_low", 1.22)),
    "tom_low": (("tom_mid", 0.8), ("tom_high", 0.67)),
    "hat_pedal": (("hat_closed", 0.9),),
}

# The same where what stands in is another instrument: it is written as what it does not sound like, so a model would
# learn, and its thresholds be chosen, on the wrong sound. The real piece of any other source is better.
_OTHERWISE: dict[str, tuple[tuple[str, float], ...]] = {
    "cross_stick": (("snare_rim", 1.5), ("snare", 1.8)),
    "hat_open": (("crash", 1.3),),
    "bell": (("ride", 1.12),),
    "ride": (("crash", 1.2),),
    "crash": (("ride", 0.8),),
}

# What is shorter than that which stands in for it.
_SHORTER = frozenset({"cross_stick", "hat_pedal"})

# The usual balance of a mix, peaks against the kick's.
_BALANCE_DB = {
    "kick": 0.0, "snare": -1.0, "snare_rim": 0.0, "cross_stick": -6.0, "tom_high": -2.0, "tom_mid": -2.0,
    "tom_low": -1.5, "hat_closed": -11.0, "hat_open": -9.5, "hat_pedal": -15.0,
    "ride": -11.0, "bell": -9.0, "crash": -5.0,
}  # fmt: skip

# Cymbals and hats come in pairs: another pad is another stick on the same metal, or the second crash of a kit.
_SECOND_CRASH = frozenset({57, 52})
_EDGES = frozenset({22, 26, 55, 52, 59})

# A stroke this much softer than the sound was struck loses treble.
_SOFTENED_FORCE = 0.2

# So many sounds of one instrument are enough for a kit; preparing them takes most of the time.
_MOST_SHOTS = 12

# The time constant of what is shaped as the attack: so long a beater or a stick is heard before the drum is.
_ATTACK_S = 0.015

# The tuning of single pieces against their group.
_PIECE_SEMITONES = 0.6


@dataclass(frozen=True)
class Voice:
    """One pad: its sounds sorted by force, its gain, and which group's microphone it stands before."""

    shots: tuple[OneShot, ...]
    gain: float
    group: str


@dataclass(frozen=True)
class Kit:
    """A drum set, ready to be played.

    Attributes:
        name: what it begins with, for the table.
        voices: by MIDI note.
        velocity_power: amplitude is (velocity / 127) to this power.
        choke_s: time constant of a closing hat.
        wires_gain: how loud the wires answer other drums.
        sources: names of the sources whose sounds are in it, sorted.
    """

    name: str
    voices: dict[int, Voice]
    velocity_power: float
    choke_s: float
    wires_gain: float
    sources: tuple[str, ...]

    def sounds(self, pitch: int) -> bool:
        """Return whether a pad is heard at all; not every source has every piece."""
        return pitch in self.voices and bool(self.voices[pitch].shots)


def draw_kit(
    number: int, banks: list[Bank], instrument_of: dict[int, str], draws: KitDraws, rng: np.random.Generator
) -> Kit:
    """Draw a kit.

    Args:
        number: of the kit.
        banks: what may be in it; the first one is what it begins with.
        instrument_of: the pads of the kit and what they are.
        draws: how widely.
        rng: where the draws come from.
    """
    voices: dict[int, Voice] = {}
    used: set[str] = set()
    # Numbers of their own, so that gains, tunings and equalizers of a kit are the same with and without layers.
    # Attacks share these numbers with the layers, so they are not the same.
    shaping = rng.spawn(1)[0]
    for group, instruments in GROUPS.items():
        bank = _bank_for(group, banks, draws, rng)
        # The attack is of the group's own sounds; a layer keeps the one that it has.
        change = replace(_Change.drawn(draws, rng), attack_db=drawn(draws.attack_db, shaping))
        layer = _Layer.drawn(group, bank, banks, draws, shaping)
        loose = group == "hats" and rng.random() < draws.loose_hat
        level_db = drawn(draws.level_db, rng)
        for instrument in instruments:
            piece = change.of_piece(rng)
            found, shots = _found(bank, banks, instrument)
            if loose and instrument == "hat_closed":
                shots = _loosened(found, rng) or shots
            shots = _thinned(shots, rng)
            pitches = sorted(pitch for pitch, name in instrument_of.items() if name == instrument)
            over = layer.sounds(instrument, shaping) if layer and pitches else ()
            if shots and pitches:
                used.add(found.source)
            if shots and over and layer:
                used.add(layer.bank.source)
            for pitch in pitches:
                heard = change.of_piece(rng) if pitch in _SECOND_CRASH else piece
                edge_db = 2.0 if pitch in _EDGES else 0.0
                gain = 10 ** ((_BALANCE_DB[instrument] + level_db + edge_db) / 20)
                own = [heard.applied(shot) for shot in shots]
                voices[pitch] = Voice(tuple(_laid_over(shot, over) for shot in own), gain, group)
    return Kit(
        name=f"{banks[0].source} {number}",
        voices=voices,
        velocity_power=drawn(draws.velocity_power, rng),
        choke_s=drawn(draws.choke_s, rng),
        wires_gain=10 ** (drawn(draws.wires_db, rng) / 20),
        sources=tuple(sorted(used)),
    )


def drawn(width: Range, rng: np.random.Generator) -> float:
    """Draw from a range."""
    return float(rng.uniform(width.low, width.high))


@dataclass(frozen=True)
class _Change:
    """What happens to the sounds of a group: pitch and decay as ratios, an equalizer and the attack's level in dB."""

    tuning: float
    decay: float
    tilt_db: float
    bell_db: float
    bell_octave: float
    attack_db: float = 0.0

    @staticmethod
    def drawn(draws: KitDraws, rng: np.random.Generator) -> _Change:
        return _Change(
            tuning=2 ** (drawn(draws.tuning_semitones, rng) / 12),
            decay=min(1.0, drawn(draws.decay, rng)),
            tilt_db=float(rng.uniform(-6, 6)),
            bell_db=float(rng.uniform(-6, 6)),
            bell_octave=float(rng.uniform(0, 8)),
        )

    def of_piece(self, rng: np.random.Generator) -> _Change:
        semitones = rng.uniform(-_PIECE_SEMITONES, _PIECE_SEMITONES)
        return replace(self, tuning=self.tuning * 2 ** (semitones / 12))

    def applied(self, shot: OneShot) -> OneShot:
        import soxr

        samples = shot.samples
        # A higher pitch is a shorter sound, as when a tape runs faster.
        samples = soxr.resample(samples, self.tuning * SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, quality="MQ")
        if self.decay < 1:
            fall = 6.9 * (1 / self.decay - 1) / max(len(samples), 1)
            samples = samples * np.exp(-fall * np.arange(len(samples), dtype=np.float32))
        if self.attack_db:
            since_s = np.arange(len(samples), dtype=np.float32) / SAMPLE_RATE_HZ
            samples = samples * 10 ** (np.float32(self.attack_db / 20) * np.exp(-since_s / np.float32(_ATTACK_S)))
        heard = filtered(samples, tilt_and_bell(self.tilt_db, self.bell_db, self.bell_octave))
        return _of_peak_one(heard, shot.force)


@dataclass(frozen=True)
class _Layer:
    """What is laid over the sounds of a group: whose sounds, what happens to them, and their gain.

    The bank is not the group's own, but may be the one that lends the group a piece which its own bank lacks.
    """

    bank: Bank
    change: _Change
    gain: float

    @staticmethod
    def drawn(group: str, under: Bank, banks: list[Bank], draws: KitDraws, rng: np.random.Generator) -> _Layer | None:
        others = [bank for bank in banks if bank is not under and any(name in bank.shots for name in GROUPS[group])]
        if not others or rng.random() >= draws.layered:
            return None
        bank = others[int(rng.integers(len(others)))]
        return _Layer(bank, _Change.drawn(draws, rng), 10 ** (drawn(draws.layer_db, rng) / 20))

    def sounds(self, instrument: str, rng: np.random.Generator) -> tuple[OneShot, ...]:
        """Return what is laid over the sounds of an instrument, as loud as it is there."""
        first: dict[float, OneShot] = {}
        # Only the first sound of each force is ever laid over another one.
        for shot in _thinned(self.bank.shots.get(instrument, ()), rng):
            first.setdefault(shot.force, shot)
        changed = map(self.change.applied, first.values())
        return tuple(OneShot(np.float32(self.gain) * shot.samples, shot.force) for shot in changed)


def _laid_over(under: OneShot, layer: tuple[OneShot, ...]) -> OneShot:
    """Return a sound and that of the layer which is nearest in force at once; both begin at their attacks."""
    if not layer:
        return under
    over = min(layer, key=lambda shot: abs(shot.force - under.force)).samples
    samples = np.zeros(max(len(under.samples), len(over)), np.float32)
    samples[: len(under.samples)] += under.samples
    samples[: len(over)] += over
    return _of_peak_one(samples, under.force)


def _of_peak_one(samples: Audio, force: float) -> OneShot:
    peak = float(np.abs(samples).max(initial=1e-9))
    return OneShot((samples / peak).astype(np.float32), force)


def _bank_for(group: str, banks: list[Bank], draws: KitDraws, rng: np.random.Generator) -> Bank:
    """Return the first bank, or another one; both only if they have a piece of the group."""
    having = [bank for bank in banks if any(instrument in bank.shots for instrument in GROUPS[group])]
    if not having:
        return banks[0]
    first_has = having[0] is banks[0]
    if first_has and (len(having) == 1 or rng.random() >= draws.other_source):
        return banks[0]
    others = having[1:] if first_has else having
    # A source with many sounds is worth hearing more often than one with few.
    weights = np.array([sum(len(bank.shots.get(name, ())) for name in GROUPS[group]) for bank in others]) ** 0.5
    return others[int(rng.choice(len(others), p=weights / weights.sum()))]


def _found(bank: Bank, banks: list[Bank], instrument: str) -> tuple[Bank, tuple[OneShot, ...]]:
    """Return the sounds of an instrument and whose they are: of this bank, even if they are of a piece that is alike.

    Else they are of another bank; else of another instrument, of this bank first.
    """
    alike = ((instrument, 1.0), *_ALIKE.get(instrument, ()))
    for pieces in (alike, _OTHERWISE.get(instrument, ())):
        for having in (bank, *banks):
            for piece, tuning in pieces:
                shots = having.shots.get(piece)
                if shots and piece == instrument:
                    return having, shots
                if shots:
                    change = _Change(tuning, 0.5 if instrument in _SHORTER else 1.0, 0.0, 0.0, 0.0)
                    return having, tuple(change.applied(shot) for shot in shots[:_MOST_SHOTS])
    return bank, ()


def _thinned(shots: tuple[OneShot, ...], rng: np.random.Generator) -> tuple[OneShot, ...]:
    """Return at most `_MOST_SHOTS`, of all forces; of a source without forces, only few that take turns."""
    if len({shot.force for shot in shots}) == 1 and len(shots) > 2:
        # One-shots of one force are different drums, not strokes on one: a kit has one or two of them.
        chosen = rng.choice(len(shots), size=int(rng.integers(1, 3)), replace=False)
        return tuple(shots[index] for index in sorted(chosen))
    step = -(-len(shots) // _MOST_SHOTS)
    return shots[int(rng.integers(step)) if step > 1 else 0 :: max(step, 1)]


def _loosened(bank: Bank, rng: np.random.Generator) -> tuple[OneShot, ...]:
    """Return hats that sizzle: open ones, damped."""
    opened = bank.shots.get("hat_open") or bank.shots.get("hat_closed") or ()
    memory_s = float(np.exp(rng.uniform(np.log(0.05), np.log(0.35))))
    fall = 1 / (memory_s * SAMPLE_RATE_HZ)
    return tuple(
        OneShot(shot.samples * np.exp(-fall * np.arange(len(shot.samples), dtype=np.float32)), shot.force)
        for shot in opened
    )


def softened(samples: Audio, missing_force: float) -> Audio:
    """Take treble from a sound that was struck harder than it is played.

    Args:
        samples: of the harder stroke.
        missing_force: by how much it is played softer, from 0 to 1.
    """
    if missing_force <= _SOFTENED_FORCE:
        return samples
    from scipy.signal import lfilter

    memory = min(0.75, 0.9 * (missing_force - _SOFTENED_FORCE))
    result: NDArray[np.float32] = lfilter([1 - memory], [1, -memory], samples).astype(np.float32)
    return result
