"""Write a folder of takes as somebody may have recorded them: `python examples/takes.py FOLDER`.

Nine grooves through two kits of the built-in synthesizer. Kit 1 was recorded in FLAC, with MIDI beside it; kit 5 in
stereo WAV at 48 kHz, with tables of hits beside it, in which the drums have names.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import soundfile
import soxr

from backbeat.config import find_project
from backbeat.datasets.mini.archive import record
from backbeat.datasets.mini.grooves import Performance, performances
from backbeat.datasets.mini.kits import KITS, SAMPLE_RATE_HZ
from backbeat.drums.classes import load_drums
from backbeat.drums.midi import Onsets, write_onsets

PERFORMANCES = 9
KIT_OF_FLAC, KIT_OF_WAV = 1, 5
OTHER_RATE_HZ = 48_000


def hits(performance: Performance, kit: int) -> Onsets:
    """Return what is heard in the recording of a performance through a kit."""
    notes = sorted((performance.onset_s(note), KITS[kit].pads.get(note.pitch, note.pitch), note.velocity)
                   for note in performance.notes)  # fmt: skip
    onset_s, pitch, velocity = zip(*notes, strict=True)
    return Onsets(np.array(onset_s, np.float32), np.array(pitch, np.uint8), np.array(velocity, np.uint8))


def write_takes(folder: Path, count: int = PERFORMANCES) -> None:
    """Write the takes of the first `count` performances, and the table of what else is known of them."""
    pitches = load_drums(find_project()).pitches
    rows = []
    for performance in performances(count):
        name = Path(performance.stem).name
        rows += [(f"kit-{kit}/{name}", f"drummer{performance.drummer}", performance.style, performance.tempo_bpm)
                 for kit in (KIT_OF_FLAC, KIT_OF_WAV)]  # fmt: skip
        for kit in (KIT_OF_FLAC, KIT_OF_WAV):
            (folder / f"kit-{kit}").mkdir(parents=True, exist_ok=True)
        mono = record(KITS[KIT_OF_FLAC], performance)
        soundfile.write(folder / f"kit-{KIT_OF_FLAC}" / f"{name}.flac", mono, SAMPLE_RATE_HZ)
        write_onsets(hits(performance, KIT_OF_FLAC), folder / f"kit-{KIT_OF_FLAC}" / f"{name}.mid")
        mono = soxr.resample(record(KITS[KIT_OF_WAV], performance), SAMPLE_RATE_HZ, OTHER_RATE_HZ)
        soundfile.write(folder / f"kit-{KIT_OF_WAV}" / f"{name}.wav", np.stack([mono, mono], axis=1), OTHER_RATE_HZ)
        heard = hits(performance, KIT_OF_WAV)
        with (folder / f"kit-{KIT_OF_WAV}" / f"{name}.csv").open("w", encoding="utf-8", newline="") as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(("onset_s", "class", "velocity"))
            for onset_s, pitch, velocity in zip(heard.onset_s, heard.pitch, heard.velocity, strict=True):
                writer.writerow((f"{onset_s:.4f}", pitches[int(pitch)], velocity))
    with (folder / "takes.csv").open("w", encoding="utf-8", newline="") as text:
        csv.writer(text, lineterminator="\n").writerows([("file", "drummer", "style", "tempo_bpm"), *rows])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a folder of takes as somebody may have recorded them.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    write_takes(parser.parse_args().folder)
