"""A bank: the sounds of one source, by instrument and by how hard they were struck.

Whatever a source is (a SoundFont, a drum machine's kit, a folder of one-shots, the synthesizer), it becomes a bank,
and from there on there is one kind of thing. Sounds are brought to one form: mono, 44.1 kHz, beginning at their
attack, of peak 1, ending where nothing is heard any more; how loud they are in a kit is for the kit to say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Audio = NDArray[np.float32]

SAMPLE_RATE_HZ = 44_100

# A sound is there at the first of these, and begins at the second, relative to its peak. What was above the second
# long before is noise of a soft stroke, or a foot on its way, and not where anybody hears a hit.
_THERE_RATIO = 0.1
_ATTACK_RATIO = 0.02
_LONGEST_RISE_SAMPLES = 88
_SILENCE_RATIO = 0.001

# So much is kept before the attack and faded in, so that no sound begins with a step.
_LEAD_SAMPLES = 32
_FADE_SAMPLES = 441

# What is longer is faded out there.
_LONGEST_S = 6.0


@dataclass(frozen=True)
class OneShot:
    """One sound: (samples,) float32 mono at 44.1 kHz of peak 1, and its force from 0 (softest) to 1."""

    samples: Audio
    force: float


@dataclass(frozen=True)
class Bank:
    """The sounds of a source.

    Attributes:
        source: its name in the recipe.
        shots: by instrument of `configs/drums.yaml`, sorted by force; of equal force are those that take turns.
    """

    source: str
    shots: dict[str, tuple[OneShot, ...]]


def one_shot(samples: NDArray[np.floating], rate_hz: int, force: float) -> OneShot | None:
    """Bring a sound to the form that banks hold; None if there is nothing to hear.

    Args:
        samples: (samples,) or (samples, channels).
        rate_hz: of the samples; other rates than 44.1 kHz are converted.
        force: how hard it was struck, from 0 to 1.
    """
    mono = np.asarray(samples, np.float32)
    mono = mono.mean(axis=1) if mono.ndim == 2 else mono
    if rate_hz != SAMPLE_RATE_HZ:
        import soxr

        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
    mono = mono[: round((_LONGEST_S + 1.0) * SAMPLE_RATE_HZ)]
    level = np.abs(mono)
    peak = float(level.max(initial=0.0))
    if peak < 1e-4 or not np.isfinite(peak):
        return None
    attack = _attack(np.asarray(level / peak, np.float32))
    begin = max(0, attack - _LEAD_SAMPLES)
    heard = np.flatnonzero(level >= _SILENCE_RATIO * peak)
    end = min(int(heard[-1]) + 1, begin + round(_LONGEST_S * SAMPLE_RATE_HZ))
    kept = (mono[begin:end] / peak).astype(np.float32)
    kept[: attack - begin] *= np.linspace(0.0, 1.0, attack - begin, endpoint=False, dtype=np.float32)
    fade = min(_FADE_SAMPLES, len(kept) // 2)
    kept[len(kept) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return OneShot(kept, float(force))


def _attack(level: Audio) -> int:
    """Return where a sound begins, of its level relative to its peak."""
    there = int(np.argmax(level >= _THERE_RATIO))
    earliest = max(0, there - _LONGEST_RISE_SAMPLES)
    return earliest + int(np.argmax(level[earliest : there + 1] >= _ATTACK_RATIO))
