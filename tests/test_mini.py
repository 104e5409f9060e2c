"""The dataset `egmd_mini`: E-GMD's layout, the same bytes every time, and sounds that behave like drums."""

import csv
import io
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from backbeat.datasets.mini import ALL_KITS, KITS, write_archive
from backbeat.datasets.mini.archive import record
from backbeat.datasets.mini.grooves import Note, Performance
from backbeat.datasets.mini.kits import SAMPLE_RATE_HZ, generator, strike
from backbeat.errors import ConfigError

ROOT = "e-gmd-v1.0.0"
EGMD_HEADER = (
    "drummer,session,id,style,bpm,beat_type,time_signature,duration,split,midi_filename,audio_filename,kit_name"
)
ROLAND_PITCHES = {22, 26, 36, 37, 38, 40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 55, 57, 58, 59}
SHORTEST = 1.5  # minutes: one performance per split


@pytest.fixture(scope="module")
def every_kit(tmp_path_factory):
    """All kits, but only one performance per split."""
    return written(tmp_path_factory.mktemp("every-kit"), minutes=SHORTEST)


@pytest.fixture(scope="module")
def every_performance(tmp_path_factory):
    """All performances of the default dataset, but only on the canonical kit."""
    return written(tmp_path_factory.mktemp("every-performance"), kits=[1])


def written(folder: Path, **options) -> Path:
    destination = folder / "mini.zip"
    write_archive(destination, **options)
    return destination


def contents(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name.removeprefix(f"{ROOT}/"): opened.read(name) for name in opened.namelist()}


def rows(archive: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(contents(archive)[f"{ROOT}.csv"].decode())))


def strokes(midi: bytes) -> list[tuple[float, int, int]]:
    """Onset in seconds, pitch and velocity of every note, by another reader than the one that is tested."""
    now_s, found = 0.0, []
    for message in mido.MidiFile(file=io.BytesIO(midi)):
        now_s += message.time
        if message.type == "note_on" and message.velocity:
            found.append((now_s, message.note, message.velocity))
    return found


def kit_of(row: dict[str, str]) -> int:
    return int(Path(row["audio_filename"]).stem.split("_")[-1])


def level_db(samples: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(samples)) + 1e-12)


def played(*notes: Note) -> Performance:
    return Performance(0, 1, "session1", "rock", 120, "beat", "4-4", "train", notes)


# ---------------------------------------------------------------- bytes


def test_the_same_arguments_make_the_same_bytes(tmp_path):
    (tmp_path / "again").mkdir()
    first = written(tmp_path, kits=[1, 5], minutes=SHORTEST)
    second = written(tmp_path / "again", kits=[1, 5], minutes=SHORTEST)
    assert first.read_bytes() == second.read_bytes()


def test_neither_a_compressor_nor_a_clock_has_a_say_in_the_bytes(every_kit):
    with zipfile.ZipFile(every_kit) as opened:
        marks = {(m.compress_type, m.date_time, m.create_system, m.external_attr) for m in opened.infolist()}
    assert marks == {(zipfile.ZIP_STORED, (2024, 1, 1, 0, 0, 0), 3, 0o100644 << 16)}


def test_a_kit_is_the_same_whichever_others_are_written(tmp_path, every_kit):
    alone = contents(written(tmp_path, kits=[7], minutes=SHORTEST))
    among_all = contents(every_kit)
    sounds = [name for name in alone if name.endswith(("_7.wav", "_7.midi"))]
    assert len(sounds) == 6
    assert all(alone[name] == among_all[name] for name in sounds)


def test_a_longer_dataset_begins_with_all_of_a_shorter_one(every_kit, every_performance):
    longer = contents(every_performance)
    shorter = {name: content for name, content in contents(every_kit).items() if name.endswith(("_1.wav", "_1.midi"))}
    assert len(longer) > len(shorter)
    assert all(longer[name] == content for name, content in shorter.items())


def test_only_the_splits_asked_for_are_written(tmp_path):
    assert {row["split"] for row in rows(written(tmp_path, kits=[1], splits=["test"], minutes=SHORTEST))} == {"test"}


# ---------------------------------------------------------------- layout


def test_the_table_has_the_columns_of_egmd_in_their_order(every_kit):
    assert contents(every_kit)[f"{ROOT}.csv"].decode().splitlines()[0] == EGMD_HEADER


def test_the_table_names_every_member_and_no_other(every_kit):
    named = {row[column] for row in rows(every_kit) for column in ("midi_filename", "audio_filename")}
    assert named | {f"{ROOT}.csv", "LICENSE", "README"} == set(contents(every_kit))


def test_file_names_repeat_what_the_table_says(every_performance):
    for row in rows(every_performance):
        style = row["style"].replace("/", "-")
        stem = f"{row['id']}_{style}_{row['bpm']}_{row['beat_type']}_{row['time_signature']}_{kit_of(row)}"
        assert (row["midi_filename"], row["audio_filename"]) == (f"{stem}.midi", f"{stem}.wav")
        assert row["id"].startswith(f"{row['session']}/")
        assert row["session"].startswith(f"{row['drummer']}/")
        assert row["kit_name"] == KITS[kit_of(row)].name


def test_durations_are_the_ones_of_the_recordings(every_kit):
    members = contents(every_kit)
    for row in rows(every_kit):
        assert float(row["duration"]) == soundfile.info(io.BytesIO(members[row["audio_filename"]])).duration


def test_the_kits_of_one_performance_lie_side_by_side(every_kit):
    names = [name for name in contents(every_kit) if name.endswith((".midi", ".wav"))]
    performances = [name.rsplit("_", 1)[0] for name in names]
    assert [performances[i] for i in range(0, len(performances), 2 * len(ALL_KITS))] == sorted(set(performances))


def test_every_kit_plays_every_performance_and_each_is_in_one_split(every_kit):
    kits, splits = defaultdict(set), defaultdict(set)
    for row in rows(every_kit):
        kits[row["id"]].add(kit_of(row))
        splits[row["id"]].add(row["split"])
    assert all(found == set(ALL_KITS) for found in kits.values())
    assert sorted(split for found in splits.values() for split in found) == ["test", "train", "validation"]


def test_most_of_the_time_is_for_training(every_performance):
    duration_s: Counter[str] = Counter()
    for row in rows(every_performance):
        duration_s[row["split"]] += float(row["duration"])
    total_s = duration_s.total()
    assert 0.65 < duration_s["train"] / total_s < 0.75
    assert 0.12 < duration_s["validation"] / total_s < 0.18
    assert 9 < total_s * len(ALL_KITS) / 60 < 11


# ---------------------------------------------------------------- performances


def test_all_pads_are_played_even_the_ones_that_general_midi_names_wrongly(every_performance):
    members = contents(every_performance)
    pitches = {pitch for name in members if name.endswith(".midi") for _, pitch, _ in strokes(members[name])}
    assert pitches == ROLAND_PITCHES


def test_midi_files_are_single_tracks_at_480_ticks_on_channel_10(every_kit):
    for name, content in contents(every_kit).items():
        if name.endswith(".midi"):
            song = mido.MidiFile(file=io.BytesIO(content))
            assert (song.type, song.ticks_per_beat, len(song.tracks)) == (0, 480, 1)
            assert {message.channel for message in song.tracks[0] if not message.is_meta} == {9}


def test_kits_differ_in_the_pitches_of_remapped_pads_and_in_nothing_else(every_kit):
    members = contents(every_kit)
    for name in members:
        if name.endswith("_1.midi"):
            canonical = strokes(members[name])
            for number, kit in KITS.items():
                expected = [(onset_s, kit.pads.get(pitch, pitch), velocity) for onset_s, pitch, velocity in canonical]
                assert sorted(strokes(members[name.replace("_1.midi", f"_{number}.midi")])) == sorted(expected)


def test_electronic_kits_have_no_cross_stick():
    assert [number for number, kit in KITS.items() if kit.pads.get(37) == 39] == [5, 6]


def test_drummers_are_no_machines(every_performance):
    members = contents(every_performance)
    for row in rows(every_performance):
        sixteenth_s = 15 / int(row["bpm"])
        onsets_s = np.array([onset_s for onset_s, _, _ in strokes(members[row["midi_filename"]])])
        velocities = {velocity for _, _, velocity in strokes(members[row["midi_filename"]])}
        off_grid = np.abs((onsets_s - onsets_s[0]) / sixteenth_s - np.round((onsets_s - onsets_s[0]) / sixteenth_s))
        assert np.median(off_grid) > 0.01
        assert len(velocities) > 5


# ---------------------------------------------------------------- sounds


def test_recordings_are_16_bit_mono_at_44100_hz_neither_clipped_nor_silent(every_kit):
    for name, content in contents(every_kit).items():
        if name.endswith(".wav"):
            info = soundfile.info(io.BytesIO(content))
            assert (info.samplerate, info.channels, info.subtype) == (44_100, 1, "PCM_16")
            samples, _ = soundfile.read(io.BytesIO(content))
            assert 0.25 < np.abs(samples).max() < 0.99
            assert -32 < level_db(samples) < -14


@pytest.mark.parametrize("number", ALL_KITS)
def test_energy_rises_at_every_onset_that_stands_alone(every_kit, number):
    members = contents(every_kit)
    rises_db = []
    for row in rows(every_kit):
        if kit_of(row) != number:
            continue
        samples, rate = soundfile.read(io.BytesIO(members[row["audio_filename"]]))
        heard = strokes(members[row["midi_filename"]])
        onsets_s = np.array([onset_s for onset_s, _, _ in heard])
        for onset_s, pitch, velocity in heard:
            # A foot that closes a ringing hi-hat takes away more sound than it makes.
            if np.sum(np.abs(onsets_s - onset_s) < 0.06) == 1 and velocity >= 50 and pitch not in {44, 54}:
                onset, width = round(onset_s * rate), round(0.012 * rate)
                # The difference from sample to sample favors treble: a ringing kick would hide a hi-hat.
                treble = np.diff(samples[onset - width : onset + width])
                rises_db.append(level_db(treble[width:]) - level_db(treble[:width]))
    assert len(rises_db) > 5
    assert min(rises_db) > 2
    assert np.median(rises_db) > 10


@pytest.mark.parametrize("number", ALL_KITS)
def test_every_pad_sounds_at_the_sample_nearest_to_its_tick_and_not_before(number):
    onset = round(100 * 0.5 / 480 * SAMPLE_RATE_HZ)
    for pitch in ROLAND_PITCHES:
        samples = record(KITS[number], played(Note(tick=100, pitch=pitch, velocity=90))) / 32768
        assert level_db(samples[:onset]) < KITS[number].hiss_db + 1, pitch
        assert level_db(samples[onset : onset + 441]) > level_db(samples[:onset]) + 10, pitch


def test_a_closing_hat_silences_the_open_one():
    left_open = played(Note(100, 46, 100), Note(1000, 36, 20))
    closed = played(Note(100, 46, 100), Note(200, 44, 20), Note(1000, 36, 20))
    late = slice(round(0.35 * SAMPLE_RATE_HZ), round(0.5 * SAMPLE_RATE_HZ))
    ringing, damped = (level_db(record(KITS[1], song)[late] / 32768) for song in (left_open, closed))
    assert ringing > damped + 12


@pytest.mark.parametrize("pitch", [36, 38, 42, 49, 51])
@pytest.mark.parametrize("number", [1, 3, 8])
def test_a_harder_stroke_is_brighter_and_not_just_louder(number, pitch):
    def treble_share(velocity: int) -> float:
        spectrum = np.abs(np.fft.rfft(strike(KITS[number], pitch, velocity, generator(0)), 2**16)) ** 2
        return spectrum[len(spectrum) // 4 :].sum() / spectrum.sum()

    assert treble_share(120) > 1.2 * treble_share(30)


def test_no_stroke_sounds_like_the_one_before():
    rng = generator(0)
    first, second = (strike(KITS[1], 38, 100, rng)[:4000] for _ in range(2))
    assert np.corrcoef(first, second)[0, 1] < 0.95


def test_kits_are_told_apart_by_their_spectra(every_kit):
    members = contents(every_kit)
    name = next(row["midi_filename"] for row in rows(every_kit) if row["split"] == "train").rsplit("_", 1)[0]
    octaves = np.array([0, 60, 120, 250, 500, 1000, 2000, 4000, 8000, 22050])
    spectra_db = []
    for number in ALL_KITS:
        samples, rate = soundfile.read(io.BytesIO(members[f"{name}_{number}.wav"]))
        power = np.abs(np.fft.rfft(samples)) ** 2
        edges = np.searchsorted(np.fft.rfftfreq(len(samples), 1 / rate), octaves[:-1])
        spectra_db.append(10 * np.log10(np.add.reduceat(power, edges) / power.sum()))
    for i, j in zip(*np.triu_indices(len(ALL_KITS), 1), strict=True):
        assert np.abs(spectra_db[i] - spectra_db[j]).max() > 3, (ALL_KITS[i], ALL_KITS[j])


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kits": [1, 9]}, "9"),
        ({"kits": []}, "none"),
        ({"splits": ["train", "dev"]}, "dev"),
        ({"minutes": 0.0}, "0"),
        ({"minutes": float("nan")}, "nan"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_written(tmp_path, options, complaint):
    with pytest.raises(ConfigError, match=complaint):
        write_archive(tmp_path / "mini.zip", **options)
    assert not list(tmp_path.iterdir())
