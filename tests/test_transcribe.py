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
from backbeat.errors import AudioError, ModelError
from backbeat.transcription.transcribe import find_hits, transcribe
from backbeat.transcription.weights import load_model, save_model
from test_weights import small_card

MODEL = "models/transcriber.safetensors"


@pytest.fixture
def eager_model(trained_project: Path, tmp_path: Path) -> Path:
    """The trained model, made to answer: a dozen steps of training teach it to keep quiet."""
    model, card = load_model(trained_project / MODEL, torch.device("cpu"))
    with torch.no_grad():
        model.onset.bias.zero_()
    answers = {
        name: answer.model_copy(update={"thresholds": [0.2] * len(answer.classes)})
        for name, answer in card.answers.items()
    }
    save_model(model, card.model_copy(update={"answers": answers}), tmp_path / "eager.safetensors")
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
    assert set(onsets.pitch.tolist()) <= set(card.answer().notes)
    content = json.loads((tmp_path / "out/song.json").read_text())
    assert content["provenance"]["dataset"] == "egmd_mini"
    assert content["class_map"] == card.class_map
    assert len(content["hits"]) == len(rows)


def test_hits_are_drum_notes_with_a_velocity(eager_model: Path, song: Path, tmp_path: Path) -> None:
    _, (done,) = transcribe([song], tmp_path / "out", eager_model)
    notes = [message for message in mido.MidiFile(done.midi) if message.type == "note_on"]
    assert notes
    assert all(message.channel == 9 and 1 <= message.velocity <= 127 for message in notes)


class Loudness(torch.nn.Module):
    """Hears a kick where it is loud."""

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = (values.float().mean(dim=2, keepdim=True) - 130) / 4
        onset = torch.cat([logits, torch.full_like(logits, -9.0).expand(-1, -1, 4)], dim=2)
        return onset, torch.full_like(onset, 0.5)


@pytest.mark.parametrize(
    ("suffix", "rate_hz", "channels"),
    [(".wav", 96_000, 6), (".flac", 22_050, 1), (".ogg", 48_000, 2), (".mp3", 32_000, 2), (".aiff", 44_100, 1)],
)
def test_every_usual_format_is_read_at_any_rate(tmp_path: Path, suffix: str, rate_hz: int, channels: int) -> None:
    """A burst in the middle of a second is one hit there, whatever it is written as."""
    samples = np.zeros((rate_hz, channels)) + 0.001
    burst = np.random.default_rng(1).choice([-0.5, 0.5], rate_hz // 50)
    samples[rate_hz // 2 : rate_hz // 2 + len(burst)] = burst[:, None]
    soundfile.write(tmp_path / f"song{suffix}", samples, rate_hz)
    duration_s, hits = find_hits(tmp_path / f"song{suffix}", Loudness(), small_card(), torch.device("cpu"))
    assert duration_s == pytest.approx(1.0, abs=0.1)
    assert [hit.drum for hit in hits] == ["kick"]
    assert hits[0].onset_s == pytest.approx(0.51, abs=0.03)


def test_no_sound_is_one_error_and_leaves_nothing(trained_project: Path, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_text("<!DOCTYPE html><html>quota</html>")
    with pytest.raises(AudioError, match=r"song\.wav is not sound"):
        transcribe([tmp_path / "song.wav"], tmp_path / "out", trained_project / MODEL)
    assert not (tmp_path / "out").exists()


def test_two_recordings_of_one_name_are_refused_before_any_work(trained_project: Path, song: Path) -> None:
    for name in ("song.wav", "Song.wav"):
        with pytest.raises(AudioError, match="one output"):
            transcribe([song, song.with_name(name)], song.parent / "out", trained_project / MODEL)


def test_an_annotation_beside_its_recording_is_not_written_over(trained_project: Path, song: Path) -> None:
    """Or the model would be scored against itself."""
    annotation = song.with_suffix(".csv")
    annotation.write_text("onset_s,class\n1.0,kick\n")
    for folder in (song.parent, song.parent / "out" / ".."):
        (song.parent / "out").mkdir(exist_ok=True)
        with pytest.raises(AudioError, match=r"song\.csv is there already(.|\n)*annotation"):
            transcribe([song], folder, trained_project / MODEL, as_csv=True)
    assert annotation.read_text().startswith("onset_s,class\n1.0")
    assert not song.with_suffix(".mid").exists()
    # What is elsewhere is an output of before.
    for _ in range(2):
        list(transcribe([song], song.parent / "out", trained_project / MODEL, as_csv=True)[1])


def test_a_folder_is_no_recording_and_no_output(trained_project: Path, song: Path, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is a folder"):
        transcribe([tmp_path], tmp_path / "out", trained_project / MODEL)
    (tmp_path / "out" / "song.csv").mkdir(parents=True)
    with pytest.raises(AudioError, match=r"song\.csv is there already"):
        transcribe([song], tmp_path / "out", trained_project / MODEL, as_csv=True)
    assert not (tmp_path / "out" / "song.mid").exists()


def test_what_is_done_before_a_damaged_recording_is_said(eager_model: Path, song: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "zz.wav"
    soundfile.write(damaged, np.full(44_100, np.nan, np.float32), 44_100, "FLOAT")
    _, done = transcribe([song, damaged], tmp_path / "out", eager_model)
    assert next(done).midi.exists()
    with pytest.raises(AudioError, match=r"zz\.wav"):
        next(done)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["song.mid"]


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
            f"run = transcribe([Path({str(recording)!r})], Path({str(tmp_path)!r}), "
            f"Path({str(trained_project / MODEL)!r})); list(run[1]);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        peaks.append(int(shown.stdout))
    # 7 more minutes are 74 MB as floats; the hits alone stay.
    assert peaks[1] - peaks[0] < 25_000


def test_a_coarser_map_is_answered_in_its_own_classes(eager_model: Path, song: Path, tmp_path: Path) -> None:
    _, (own,) = transcribe([song], tmp_path / "own", eager_model)
    _, (coarse,) = transcribe([song], tmp_path / "coarse", eager_model, classes="hits3", as_json=True)
    assert {hit.drum for hit in own.hits} - {"kick", "snare", "hi_hat"}
    assert {hit.drum for hit in coarse.hits} <= {"kick", "snare", "hi_hat"}
    assert {hit.note for hit in coarse.hits} <= {36, 38, 42}
    assert json.loads((tmp_path / "coarse/song.json").read_text())["class_map"] == "hits3"


def test_a_map_that_the_model_does_not_answer_in_is_one_error_and_leaves_nothing(
    eager_model: Path, song: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"class map fine14(.|\n)*expected: .*hits3"):
        transcribe([song], tmp_path / "out", eager_model, classes="fine14")
    assert not (tmp_path / "out").exists()


def test_threads_are_as_they_were(eager_model: Path, song: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        list(transcribe([song], tmp_path, eager_model)[1])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_command_says_which_model_which_classes_and_how_many_hits(eager_model: Path, song: Path) -> None:
    """In a folder that is no clone, in a process that loads no Lightning."""
    command = ["transcribe", str(song), "-o", "out", "--model", str(eager_model), "--classes", "hits3"]
    script = (
        "import sys; from backbeat.cli.app import app; app(standalone_mode=False); "
        "assert 'torch' in sys.modules and 'lightning' not in sys.modules"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script, *command],
        cwd=song.parent, capture_output=True, text=True, check=True, env={"PATH": "", "COLUMNS": "200"},
    )  # fmt: skip
    assert "model eager.safetensors, trained on egmd_mini" in shown.stdout
    assert "classes kick, snare, hi_hat (hits3)" in shown.stdout
    assert "hits in 10.0 s of sound" in shown.stdout
    assert (song.parent / "out/song.mid").exists()
