"""What a dataset holds, counted over real files of every kind."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import soundfile
import yaml
from typer import Typer
from typer.testing import CliRunner

from backbeat.cli.dataset_content import register
from backbeat.datasets.headers import array_shape, audio_info, kind_of
from backbeat.datasets.mini import write_archive
from backbeat.datasets.packed.containers import iterate
from backbeat.datasets.packed.items import BytesContent, Item
from backbeat.datasets.stats import Stats, stats, stats_of
from backbeat.errors import ArchiveError, BackbeatError
from one_dataset import new_project, record_of

GROOVE = Path(__file__).parents[2] / "shared/data/groove-v1.0.0-midionly.zip"


def sound(seconds: float, rate_hz: int = 8_000, channels: int = 1, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    samples = np.sin(np.arange(round(seconds * rate_hz)) / 9)[:, None].repeat(channels, axis=1) / 2
    soundfile.write(buffer, samples, rate_hz, subtype, format=kind)
    return buffer.getvalue()


def song(beats: int, ticks_per_beat: int = 480) -> bytes:
    """A MIDI file that lasts half a second per beat."""
    buffer = io.BytesIO()
    track = mido.MidiTrack([mido.Message("note_on", note=40, time=beats * ticks_per_beat)])
    mido.MidiFile(ticks_per_beat=ticks_per_beat, tracks=[track]).save(file=buffer)
    return buffer.getvalue()


def array(values: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def item(name: str, content: bytes) -> Item:
    return Item(name, len(content), BytesContent(content))


def counted(files: dict[str, bytes], layout: str = "audio-folder") -> Stats:
    return stats_of("set", layout, [item(name, content) for name, content in files.items()])


# --- Kinds and headers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a/b.WAV", "audio"),
        ("x.mp3", "audio"),
        ("x.mid", "midi"),
        ("x.npy", "array"),
        ("x.csv", "table"),
        ("README", "text"),
        ("x.zip", "other"),
        ("a/._b.wav", "other"),
    ],
)
def test_kind_follows_from_the_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_header_of_a_wav_says_what_libsndfile_says(kind: str, subtype: str) -> None:
    content = sound(0.25, 44_100, 2, subtype, kind)
    info = audio_info(item("x.wav", content))
    assert (info.sample_rate_hz, info.channels, info.samples, info.subtype) == (44_100, 2, 11_025, subtype)


class _HeadOnly(BytesContent):
    def chunks(self) -> Any:
        raise AssertionError("the samples were read")


def test_samples_of_a_plain_wav_are_not_read() -> None:
    content = sound(10)
    assert audio_info(Item("x.wav", len(content), _HeadOnly(content[:4096]))).duration_s == 10


@pytest.mark.parametrize(
    ("kind", "subtype"), [("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("AIFF", "PCM_16"), ("MP3", "MPEG_LAYER_III")]
)
def test_other_sound_is_measured_by_libsndfile(kind: str, subtype: str) -> None:
    if kind not in soundfile.available_formats():
        pytest.skip(f"this libsndfile cannot write {kind}")
    found = counted({f"x.{kind.lower()}": sound(2, 44_100, subtype=subtype, kind=kind)})
    assert (found.unreadable_names, round(found.hours * 3600, 1), found.sample_types) == ((), 2.0, {subtype: 1})


BROKEN = {
    "cut.wav": sound(1)[:-5_000],
    "no_length.wav": sound(1)[:40] + b"\0\0\0\0" + sound(1)[44:],
    "page.wav": b"<!doctype html><html></html>",
    "empty.wav": b"",
    "page.mp3": b"version https://git-lfs.github.com/spec/v1",
    "cut.mid": song(4)[:-3],
    "tracks.mid": song(4)[:11] + b"\x09" + song(4)[12:],
    "smpte.mid": song(4)[:12] + b"\xe7\x28" + song(4)[14:],
    "forever.mid": song(4, 1)[:-9] + b"\xff\xff\xff\x7f" + song(4, 1)[-8:],
    "cut.npy": array(np.zeros((10, 3), np.float16))[:-1],
    "page.npy": b"<!doctype html>",
    "objects.npy": array(np.array([{}, []], object)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_counted_and_named(name: str) -> None:
    found = counted({name: BROKEN[name], "good.wav": sound(1)})
    assert (found.unreadable, found.files) == (1, 2)
    assert name in found.unreadable_names[0]


def test_twenty_unreadable_files_are_named() -> None:
    found = counted({f"{number}.wav": b"" for number in range(25)})
    assert (found.unreadable, len(found.unreadable_names)) == (25, 20)


def test_array_is_known_by_its_header() -> None:
    found = array_shape(item("x.npy", array(np.zeros((100, 16, 96), np.float16))))
    assert (found.shape, found.dtype) == ((100, 16, 96), "float16")


def test_array_of_an_impossible_size_is_refused() -> None:
    with pytest.raises(ArchiveError):
        array_shape(item("x.npy", array(np.zeros(4)).replace(b"(4,)", b"(9,)")))


# --- Numbers ---------------------------------------------------------------------------------------------------------


def test_lengths_are_summed_up() -> None:
    found = counted({f"{seconds}.wav": sound(seconds) for seconds in (1, 2, 6)}).audio
    assert found is not None
    assert (found.count, found.total_s, found.min_s, found.median_s, found.mean_s, found.max_s) == (3, 9, 1, 2, 3, 6)


def test_every_recording_is_in_one_bin() -> None:
    found = counted({f"{seconds}.wav": sound(seconds) for seconds in (1, 2, 6)}).audio
    assert found is not None
    assert (sum(found.bins), found.bins[-1], len(found.edges_s)) == (3, 1, len(found.bins) + 1)


def test_bins_grow_where_one_recording_is_far_longer_than_the_others() -> None:
    found = counted({f"{seconds}.wav": sound(seconds) for seconds in (0.1, 0.2, 0.3, 16)}).audio
    assert found is not None
    assert (found.edges_s[0], sum(found.bins)) == (0.1, 4)
    assert sum(count > 0 for count in found.bins) == 4


def test_rates_types_and_channels_are_counted() -> None:
    found = counted({"a.wav": sound(1), "b.wav": sound(1, 16_000, 2, "PCM_24"), "c.wav": sound(1, 16_000)})
    assert (found.sample_rates_hz, found.sample_types, found.channels) == (
        {8_000: 1, 16_000: 2},
        {"PCM_16": 2, "PCM_24": 1},
        {1: 2, 2: 1},
    )


def test_midi_lasts_as_long_as_its_tempo_says() -> None:
    found = counted({"a.mid": song(4), "b.midi": song(8)}, "midi-folder").midi
    assert found is not None
    assert (found.min_s, found.max_s) == (2, 4)


def test_change_of_tempo_counts_from_where_it_is() -> None:
    track = mido.MidiTrack([mido.Message("note_on", time=480), mido.MetaMessage("set_tempo", tempo=1_000_000)])
    track.append(mido.Message("note_on", time=960))
    buffer = io.BytesIO()
    mido.MidiFile(tracks=[track]).save(file=buffer)
    found = counted({"a.mid": buffer.getvalue()}).midi
    assert found is not None
    assert found.total_s == 2.5


def test_bytes_are_those_of_what_comes_out() -> None:
    assert counted({"a.txt": b"1234", "b.bin": b"12"}).size_bytes == 6


# --- Classes ---------------------------------------------------------------------------------------------------------


def test_folders_are_classes() -> None:
    found = counted({f"set/{folder}/{name}.wav": sound(0.1) for folder in ("dog", "cat") for name in "ab"})
    assert found.classes == {"folder": {"cat": 2, "dog": 2}}


def test_one_folder_is_no_class() -> None:
    assert counted({f"set/wavs/{name}.wav": sound(0.1) for name in "ab"}).classes == {}


def test_folders_that_are_ids_are_no_classes() -> None:
    assert counted({f"set/{number}/x.wav": sound(0.01) for number in range(61)}).classes == {}


def test_last_folder_is_a_class_where_the_first_ones_are_ids() -> None:
    files = {f"{number}/a/b/c/{'odd' if number % 2 else 'even'}/x.wav": sound(0.01) for number in range(70)}
    assert counted(files).classes == {"folder": {"even": 35, "odd": 35}}


def test_names_of_nsynth_say_family_and_source() -> None:
    names = ["bass_electronic_018-022-100", "bass_synthetic_033-022-050", "synth_lead_synthetic_011-055-127"]
    found = counted({f"nsynth-test/audio/{name}.wav": sound(0.1) for name in names})
    assert found.classes == {
        "instrument family": {"bass": 2, "synth_lead": 1},
        "source": {"synthetic": 2, "electronic": 1},
    }


# --- Datasets that are here ------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return new_project(tmp_path)


def here(project: Path, name: str, layout: str, write: Callable[[Path], None]) -> None:
    record_of(project, "https://example.org/x", path=name)
    path = project / "configs/datasets/lies.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"layout": layout}, sort_keys=False))
    (project / "data/raw/lies").mkdir(parents=True)
    write(project / "data/raw/lies" / name)


def _tar_of_sounds(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, seconds in {"kick/1.wav": 0.5, "kick/2.wav": 1.0, "snare/1.wav": 1.5}.items():
            info = tarfile.TarInfo(name)
            content = sound(seconds)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _mini(path: Path) -> None:
    write_archive(path, kits=[1, 4], minutes=0.1)


def test_tar_of_sounds_is_counted(project: Path) -> None:
    here(project, "x.tar.gz", "audio-folder", _tar_of_sounds)
    found = stats(project, "lies")
    assert (found.files, found.hours * 3600, found.classes) == (3, 3.0, {"folder": {"kick": 2, "snare": 1}})


def test_table_of_egmd_is_counted(project: Path) -> None:
    here(project, "x.zip", "egmd", _mini)
    found = stats(project, "lies")
    sequences = found.kinds["audio"].files
    assert found.kinds["midi"].files == sequences == sum(found.classes["split"].values())
    assert len(found.classes["kit"]) == 2
    assert sorted(found.classes["split"]) == ["test", "train", "validation"]


def test_real_midi_is_counted(project: Path) -> None:
    if not GROOVE.is_file():
        pytest.skip(f"{GROOVE} is not here")
    with zipfile.ZipFile(GROOVE) as whole:
        few = [info for info in whole.infolist() if info.filename.endswith(".mid")][:30]

        def write(path: Path) -> None:
            with zipfile.ZipFile(path, "w") as part:
                for info in few:
                    part.writestr(info.filename, whole.read(info))

        here(project, "x.zip", "midi-folder", write)
        found = stats(project, "lies")
    assert found.midi is not None
    assert (found.unreadable, found.midi.count) == (0, 30)
    assert 0.5 < found.midi.min_s < found.midi.max_s < 1_800


# --- Commands and pictures -------------------------------------------------------------------------------------------


@pytest.fixture
def app() -> Typer:
    app = Typer()
    register(app)
    return app


def test_stats_are_printed_and_drawn(project: Path, app: Typer) -> None:
    here(project, "x.tar.gz", "audio-folder", _tar_of_sounds)
    result = CliRunner().invoke(app, ["stats", "lies", "--plot", "out.png"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "8,000 Hz" in result.stdout
    assert (project / "out.png").read_bytes().startswith(b"\x89PNG")


def test_picture_has_the_same_bytes_every_time(project: Path) -> None:
    from backbeat.datasets.stats_plot import draw_stats

    found = counted({"a/$x_1$.wav": sound(1), "b/y.wav": sound(2)})
    draw_stats(project / "1.png", found)
    draw_stats(project / "2.png", found)
    assert (project / "1.png").read_bytes() == (project / "2.png").read_bytes()


def test_stats_as_json_are_only_json(project: Path, app: Typer) -> None:
    here(project, "x.tar.gz", "audio-folder", _tar_of_sounds)
    result = CliRunner().invoke(app, ["stats", "lies", "--json"], catch_exceptions=False)
    assert yaml.safe_load(result.stdout)["audio"]["total_s"] == 3.0


def test_stream_prints_one_object_in_each_line(project: Path, app: Typer) -> None:
    here(project, "x.tar.gz", "audio-folder", _tar_of_sounds)
    result = CliRunner().invoke(app, ["stream", "lies", "--json", "--limit", "2"], catch_exceptions=False)
    assert [yaml.safe_load(line)["name"] for line in result.stdout.splitlines()] == ["kick/1.wav", "kick/2.wav"]


def test_stats_of_what_is_not_here_say_what_to_type(project: Path) -> None:
    record_of(project, "https://example.org/x")
    with pytest.raises(BackbeatError, match="backbeat datasets download lies"):
        stats(project, "lies")


def test_reader_and_statistics_agree_on_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(array(np.zeros((3, 2))))
    assert stats_of("set", "npy", iterate(tmp_path / "x.npy")).arrays[0].shape == (3, 2)
