"""Transcription: any recording in, MIDI out."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import torch

from backbeat.drums.midi import read_onsets
from backbeat.errors import AudioError
from backbeat.transcription.transcribe import transcribe
from backbeat.transcription.weights import load_model, save_model

MODEL = "models/transcriber.safetensors"


@pytest.fixture
def eager_model(trained_project: Path, tmp_path: Path) -> Path:
    """The trained model, made to answer: a dozen steps of training teach it to keep quiet."""
    model, card = load_model(trained_project / MODEL, torch.device("cpu"))
    with torch.no_grad():
        model.onset.bias.zero_()
    save_model(model, card.model_copy(update={"thresholds": [0.2] * len(card.classes)}), tmp_path / "eager.safetensors")
    return tmp_path / "eager.safetensors"


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """Ten seconds of noise bursts, in stereo at another rate than the model's."""
    rng = np.random.default_rng(1)
    envelope = np.exp(-np.arange(480_000) % 24_000 / 2_000)
    samples = (0.5 * envelope * rng.standard_normal(480_000)).clip(-1, 1)
    soundfile.write(tmp_path / "song.flac", np.stack([samples, 0.5 * samples], axis=1), 48_000)
    return tmp_path / "song.flac"


def test_the_midi_file_holds_the_hits_that_are_reported(eager_model: Path, song: Path, tmp_path: Path) -> None:
    card, (done,) = transcribe([song], tmp_path / "out", eager_model, as_csv=True, as_json=True)
    assert done.midi == tmp_path / "out" / "song.mid"
    assert done.duration_s == pytest.approx(10.0)
    rows = list(csv.DictReader((tmp_path / "out/song.csv").read_text().splitlines()))
    assert len(rows) == len(done.hits) > 0
    onsets = read_onsets(done.midi.read_bytes())
    assert sorted(onsets.pitch.tolist()) == sorted(hit.note for hit in done.hits)
    assert onsets.onset_s == pytest.approx([hit.onset_s for hit in done.hits], abs=0.001)
    assert set(onsets.pitch.tolist()) <= set(card.notes)
    content = json.loads((tmp_path / "out/song.json").read_text())
    assert content["provenance"]["dataset"] == "egmd_mini"
    assert len(content["hits"]) == len(rows)


def test_hits_are_drum_notes_with_a_velocity(eager_model: Path, song: Path, tmp_path: Path) -> None:
    _, (done,) = transcribe([song], tmp_path, eager_model)
    notes = [message for message in mido.MidiFile(done.midi) if message.type == "note_on"]
    assert notes
    assert all(message.channel == 9 and 1 <= message.velocity <= 127 for message in notes)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".aiff"])
def test_every_usual_format_is_read(trained_project: Path, tmp_path: Path, suffix: str) -> None:
    soundfile.write(tmp_path / f"song{suffix}", np.zeros(44_100) + 0.01, 44_100)
    _, (done,) = transcribe([tmp_path / f"song{suffix}"], tmp_path, trained_project / MODEL)
    assert done.midi.exists()


def test_no_sound_is_one_error_and_leaves_nothing(trained_project: Path, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_text("<!DOCTYPE html><html>quota</html>")
    with pytest.raises(AudioError, match=r"song\.wav is not sound"):
        transcribe([tmp_path / "song.wav"], tmp_path / "out", trained_project / MODEL)
    assert not (tmp_path / "out").exists()


def test_two_recordings_of_one_name_are_refused_before_any_work(trained_project: Path, song: Path) -> None:
    with pytest.raises(AudioError, match="one output"):
        transcribe([song, song.with_suffix(".wav")], song.parent / "out", trained_project / MODEL)


def test_silence_is_an_empty_transcription(trained_project: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(44_100), 44_100)
    _, (done,) = transcribe([tmp_path / "silence.wav"], tmp_path, trained_project / MODEL)
    assert mido.MidiFile(done.midi).length >= 0


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(trained_project: Path, tmp_path: Path) -> None:
    """Eight times the length takes no more than a little more memory, measured in processes of their own."""
    peaks = []
    for minutes in (1, 8):
        recording = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(recording, "w", 44_100, 1, "PCM_16") as sound:
            burst = np.exp(-np.arange(44_100) / 4_000) * np.random.default_rng(1).standard_normal(44_100) / 8
            for _ in range(60 * minutes):
                sound.write(burst)
        script = (
            "import sys, resource; from pathlib import Path; from backbeat.transcription.transcribe import transcribe;"
            f"transcribe([Path({str(recording)!r})], Path({str(tmp_path)!r}), Path({str(trained_project / MODEL)!r}));"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        peaks.append(int(shown.stdout))
    # 7 more minutes are 74 MB as floats; the hits alone stay.
    assert peaks[1] - peaks[0] < 25_000


def test_the_command_says_which_model_which_classes_and_how_many_hits(trained_project: Path, song: Path) -> None:
    shown = subprocess.run(
        [Path(sys.executable).parent / "backbeat", "transcribe", song, "-o", song.parent / "out"],
        cwd=trained_project, capture_output=True, text=True, check=True, env={"PATH": "", "COLUMNS": "200"},
    )  # fmt: skip
    assert "transcriber.safetensors" in shown.stdout
    assert "trained on egmd_mini" in shown.stdout
    assert "kick, snare, toms" in shown.stdout
    assert "hits in 10.0 s" in shown.stdout
