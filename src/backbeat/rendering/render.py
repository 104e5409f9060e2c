"""Rendering one kit: every recording of it, with the MIDI file of what is heard. A task of the executor."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.datasets.egmdtable import COLUMNS, write_table
from backbeat.drums.midi import Onsets, read_onsets, write_onsets
from backbeat.drums.pack import member
from backbeat.rendering.bank import SAMPLE_RATE_HZ
from backbeat.rendering.kits import draw_kit, drawn
from backbeat.rendering.material import read_bank
from backbeat.rendering.performances import Performance, excerpt
from backbeat.rendering.plan import KitTask
from backbeat.rendering.playing import play
from backbeat.rendering.seeds import Purpose, generator
from backbeat.rendering.sources import load_bank
from backbeat.rendering.studio import Backing, draw_backing, produce
from backbeat.storage.staging import new_file

# The member of a part that lists the names of the sources that are heard in it.
HEARD = "sources.json"


def render_kit(task: KitTask) -> None:
    """Render all recordings of one kit into its part: a zip of WAV, MIDI and a row of the table for each, and `HEARD`.

    A kit that plays nothing that it has the pads for leaves `HEARD` empty.
    """
    recipe = task.recipe
    banks = [
        load_bank(source, _synthesizer_seed(task)) if path is None else read_bank(path, source.name)
        for source, path in zip(task.sources, task.banks, strict=True)
    ]
    kit_rng = generator(recipe.seed, task.role, task.index, Purpose.KIT)
    kit = draw_kit(task.number, banks, task.instrument_of, recipe.kit, kit_rng)
    heard: tuple[str, ...] = ()
    with new_file(task.part) as part, zipfile.ZipFile(part, "w") as target:
        for position, performance in enumerate(task.played):
            rng = generator(recipe.seed, task.role, task.index, Purpose.RECORDING, position)
            hits = excerpt(performance, recipe.longest_s, rng).onsets
            # What a kit does not have is not heard, and so not written either.
            hits = hits.where(np.array([kit.sounds(int(pitch)) for pitch in hits.pitch]))
            speed = drawn(recipe.recording.speed, rng)
            if not len(hits):
                continue
            midi, onsets = _written(hits, speed)
            samples = produce(play(kit, onsets, rng), _backing(task, position), recipe.recording, rng)
            stem = f"{performance.stem}_{task.number}"
            target.writestr(member(f"{stem}.midi"), midi)
            target.writestr(member(f"{stem}.wav"), _wav(samples))
            row = _row(performance, stem, speed, len(samples) / SAMPLE_RATE_HZ, kit.name)
            target.writestr(member(f"{stem}.csv"), write_table([row], COLUMNS))
            heard = kit.sources
        target.writestr(member(HEARD), json.dumps(heard))


def _backing(task: KitTask, position: int) -> Backing | None:
    """Draw whether a band plays along; from numbers of its own, so that the drums are the same without it."""
    recording = task.recipe.recording
    rng = generator(task.recipe.seed, task.role, task.index, Purpose.BACKING, position)
    if rng.random() >= recording.backing:
        return None
    song = np.load(task.songs[int(rng.integers(len(task.songs)))])
    return draw_backing(song, recording, rng)


def _synthesizer_seed(task: KitTask) -> int:
    return int(generator(task.recipe.seed, task.role, task.index, Purpose.SYNTHESIZER).integers(2**63))


def _written(onsets: Onsets, speed: float) -> tuple[bytes, Onsets]:
    """Return the hits of a tape that runs at this speed as a MIDI file, and as that file has them."""
    faster = Onsets((onsets.onset_s / speed).astype(np.float32), onsets.pitch, onsets.velocity)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "played.midi"
        write_onsets(faster, path)
        midi = path.read_bytes()
    return midi, read_onsets(midi)


def _wav(samples: NDArray[np.int16]) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, SAMPLE_RATE_HZ, subtype="PCM_16", format="WAV")
    return out.getvalue()


def _row(performance: Performance, stem: str, speed: float, duration_s: float, kit_name: str) -> dict[str, str]:
    return {
        "drummer": performance.drummer,
        "session": performance.session,
        "id": performance.id,
        "style": performance.style,
        # What is heard, as the onsets are.
        "bpm": f"{round(performance.tempo_bpm * speed, 3)}",
        "beat_type": performance.beat_type,
        "time_signature": performance.meter,
        "duration": repr(duration_s),
        "split": performance.split,
        "midi_filename": f"{stem}.midi",
        "audio_filename": f"{stem}.wav",
        "kit_name": kit_name,
    }
