"""The stage `sounds`: an archive of one-second tones of five families of synthetic instruments, 16-bit WAV.

`tones.csv` in the archive says of each sound what it is and which split it is in. Splits are by instrument: of the
twelve of a family four are the test split, so that a model which knows instruments and not families fails. The bytes
are the same every time.
"""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.storage.staging import new_file

ARCHIVE = Path("data/raw/tones/tones.zip")
FAMILIES = ("bell", "clarinet", "organ", "pluck", "string")
INSTRUMENTS = 12  # of each family
HELD_OUT = 4  # of them
PITCHES = range(48, 84, 6)  # MIDI notes
RATE_HZ = 22_050

Samples = NDArray[np.float64]


def tone(family: str, instrument: int, pitch: int) -> Samples:
    """Return one second of a note, shape (samples,), at most 0.8 loud."""
    # What an instrument is like depends on the instrument alone; the noise under it on the note, too.
    own = np.random.default_rng([FAMILIES.index(family), instrument])
    brightness, attack_s, vibrato_hz = own.uniform(0.4, 1.6), own.uniform(0.002, 0.12), own.uniform(4, 7)
    time_s = np.arange(RATE_HZ) / RATE_HZ
    order = np.arange(1.0, 13.0)
    strength: Samples = order**-brightness * own.uniform(0.3, 1, len(order))
    decay_per_s = np.zeros(len(order))
    if family == "clarinet":
        strength[1::2] *= 0.05
    if family in {"pluck", "bell"}:
        attack_s, decay_per_s = 0.002, own.uniform(1, 4) * order**0.7
    stretch = own.uniform(1.15, 1.3) if family == "bell" else 1.0
    depth = own.uniform(0.004, 0.01) if family == "string" else 0.0
    frequency_hz = 440 * 2 ** ((pitch - 69) / 12) * order**stretch
    strength[frequency_hz > RATE_HZ / 2.2] = 0
    phase = time_s + depth / vibrato_hz * np.sin(2 * np.pi * vibrato_hz * time_s) / (2 * np.pi)
    partials = np.sin(2 * np.pi * frequency_hz[:, None] * phase) * np.exp(-decay_per_s[:, None] * time_s)
    sound: Samples = strength @ partials * np.minimum(1, time_s / attack_s)
    noise = np.random.default_rng([FAMILIES.index(family), instrument, pitch])
    sound = sound / np.abs(sound).max() + noise.uniform(0.002, 0.03) * noise.standard_normal(len(sound))
    loud: Samples = noise.uniform(0.2, 0.8) * sound / np.abs(sound).max()
    return loud


def write_archive(path: Path) -> None:
    """Write every note of every instrument, and the table."""
    rows: list[tuple[str, str, str]] = []
    with new_file(path) as part, zipfile.ZipFile(part, "w") as archive:
        for family in FAMILIES:
            for instrument in range(INSTRUMENTS):
                for pitch in PITCHES:
                    name = f"{family}/{family}-{instrument}_{pitch}.wav"
                    content = io.BytesIO()
                    soundfile.write(content, tone(family, instrument, pitch), RATE_HZ, subtype="PCM_16", format="WAV")
                    archive.writestr(zipfile.ZipInfo(name), content.getvalue())
                    rows.append((name, family, "train" if instrument >= HELD_OUT else "test"))
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("file", "family", "split"), *rows])
        archive.writestr(zipfile.ZipInfo("tones.csv"), table.getvalue())


if __name__ == "__main__":
    write_archive(ARCHIVE)
