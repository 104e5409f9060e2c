"""Reading sound: every format that is accepted, and one clear error for everything else."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from backbeat.audio import read
from backbeat.audio.read import BLOCK_SAMPLES, mono_blocks, read_info
from backbeat.errors import AudioError
from small_project import midi, wav

REPOSITORY = Path(__file__).parents[1]
FIXTURES = REPOSITORY.parent / "shared" / "data" / "wav-fixtures"
RATE = 44_100

# Half of the smallest step of each sample type, and a little for the way through 32-bit floats.
PRECISION = {"PCM_U8": 2**-7, "PCM_16": 2**-15, "PCM_24": 2**-23, "PCM_32": 2**-23, "FLOAT": 2**-23, "DOUBLE": 2**-23}

Samples = NDArray[np.float64]


def noise(count: int = 5_000, channels: int = 1) -> Samples:
    return np.random.default_rng(channels).uniform(-0.9, 0.9, (count, channels))


def sines(count: int, rate: int, channels: int) -> Samples:
    """Return a 440 Hz sine with another level in each channel, 0.5 on average."""
    levels = 0.5 + 0.1 * (np.arange(channels) - (channels - 1) / 2)
    return np.sin(2 * np.pi * 440 * np.arange(count) / rate)[:, None] * levels


def mono(source: bytes | Path, rate: int = RATE) -> NDArray[np.float32]:
    return np.concatenate(list(mono_blocks(source, "some sound", rate)))


def refusal_of(source: bytes | Path) -> AudioError:
    with pytest.raises(AudioError) as refusal:
        mono(source)
    return refusal.value


# --- What is accepted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("subtype", PRECISION)
def test_wav_of_any_depth_is_the_mean_of_its_channels(subtype: str, channels: int) -> None:
    samples = noise(channels=channels)
    np.testing.assert_allclose(mono(wav(samples, subtype=subtype)), samples.mean(axis=1), atol=PRECISION[subtype])


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("rate", [8_000, 48_000, 96_000])
def test_wav_of_any_rate_is_resampled(rate: int, channels: int) -> None:
    found = mono(wav(sines(rate, rate, channels), rate, "PCM_24"))
    expected = sines(RATE, RATE, 1)[:, 0]
    # The ends of a sine that is cut off ring.
    np.testing.assert_allclose(found[1_000:-1_000], expected[1_000:-1_000], atol=1e-4)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 96_000])
def test_duration_stays(rate: int) -> None:
    assert len(mono(wav(noise(rate // 2), rate))) == RATE // 2


@pytest.mark.parametrize("subtype", PRECISION)
def test_info_says_what_the_header_says(subtype: str) -> None:
    info = read_info(wav(noise(4_800, 2), 48_000, subtype), "some sound")
    assert (info.sample_rate_hz, info.channels, info.samples, info.subtype) == (48_000, 2, 4_800, subtype)
    assert info.duration_s == 0.1


# Container, sample type, rate, and how far from the original a sine may be.
CONTAINERS = {
    "WAV, extensible": ("WAVEX", "PCM_24", RATE, 2**-23),
    "RF64": ("RF64", "PCM_16", RATE, 2**-15),
    "AIFF": ("AIFF", "PCM_16", RATE, 2**-15),
    "AIFF-C of floats": ("AIFF", "FLOAT", RATE, 2**-23),
    "FLAC": ("FLAC", "PCM_24", RATE, 2**-23),
    "Ogg Vorbis": ("OGG", "VORBIS", RATE, 0.02),
    "Ogg Opus": ("OGG", "OPUS", 48_000, 0.05),
    "MP3": ("MP3", "MPEG_LAYER_III", RATE, 0.02),
}


@pytest.mark.parametrize("case", CONTAINERS)
def test_other_container_is_read(case: str) -> None:
    container, subtype, rate, tolerance = CONTAINERS[case]
    if subtype not in soundfile.available_subtypes(container):
        pytest.skip(f"this libsndfile writes no {subtype}")
    found = mono(wav(sines(rate, rate, 2), rate, subtype, container))
    expected = sines(RATE, RATE, 1)[:, 0]
    np.testing.assert_allclose(found[2_000:-2_000], expected[2_000:-2_000], atol=tolerance)


def test_chunks_that_nobody_knows_are_passed_over() -> None:
    plain = wav(noise())
    foreign = plain[:36] + b"junk" + struct.pack("<I", 5) + b"12345\0" + plain[36:]
    np.testing.assert_array_equal(mono(foreign), mono(plain))


def test_chunks_behind_the_samples_are_no_samples() -> None:
    plain = wav(noise())
    np.testing.assert_array_equal(mono(plain + b"LIST" + struct.pack("<I", 4) + b"INFO"), mono(plain))


def test_file_is_read_like_its_content(tmp_path: Path) -> None:
    (tmp_path / "some.wav").write_bytes(wav(noise()))
    np.testing.assert_array_equal(mono(tmp_path / "some.wav"), mono(wav(noise())))


# --- Blocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [RATE, 48_000, 8_000])
def test_blocks_have_no_say_in_the_samples(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    content = wav(noise(20_000, 2), rate)
    whole = mono(content)
    monkeypatch.setattr(read, "BLOCK_SAMPLES", 997)
    np.testing.assert_array_equal(mono(content), whole)


def test_resampling_in_blocks_is_resampling_in_one() -> None:
    samples = noise(BLOCK_SAMPLES + 50_000)
    expected = soxr.resample(samples[:, 0].astype(np.float32), 48_000, RATE, quality="HQ")
    np.testing.assert_allclose(mono(wav(samples, 48_000, "FLOAT")), expected, atol=1e-6)


def test_long_recording_does_not_have_to_fit_into_memory(tmp_path: Path) -> None:
    block_bytes = 4 * BLOCK_SAMPLES
    soundfile.write(tmp_path / "long.wav", np.zeros(20 * BLOCK_SAMPLES, np.int16), RATE)
    tracemalloc.start()
    try:
        for _ in mono_blocks(tmp_path / "long.wav", "long.wav", RATE):
            pass
        assert tracemalloc.get_traced_memory()[1] < 4 * block_bytes
    finally:
        tracemalloc.stop()


# --- What is refused -------------------------------------------------------------------------------------------------


def with_data_length(content: bytes, length: int) -> bytes:
    at = content.index(b"data") + 4
    return content[:at] + struct.pack("<I", length) + content[at + 4 :]


def with_format(content: bytes, offset: int, form: str, value: int) -> bytes:
    """Return a WAV file with another value in its `fmt ` chunk."""
    at = content.index(b"fmt ") + 8 + offset
    return content[:at] + struct.pack(form, value) + content[at + struct.calcsize(form) :]


def with_value(value: float, channel: int, channels: int, subtype: str = "FLOAT") -> bytes:
    samples = noise(channels=channels)
    samples[1_234, channel] = value
    return wav(samples, subtype=subtype)


WAV = wav(noise())
FLAC = wav(noise(), container="FLAC")
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "only a header": (WAV[:44], "is cut off"),
    "header cut off": (WAV[:30], "cannot be decoded"),
    "cut in half": (WAV[: len(WAV) // 2], "is cut off"),
    "last byte missing": (WAV[:-1], "is cut off"),
    "more declared than there is": (with_data_length(WAV, 2**31), "is cut off"),
    "length of zero before samples": (with_data_length(WAV, 0), "does not say how long it is"),
    "length that was never filled in": (with_data_length(WAV, 0xFFFFFFFF), "does not say how long it is"),
    "no samples": (wav(np.zeros((0, 1))), "has no samples"),
    "RF64 cut in half": (wav(noise(), container="RF64")[:5_000], "is cut off"),
    "AIFF cut in half": (wav(noise(), container="AIFF")[:5_000], "is cut off"),
    "AIFF-C cut in half": (wav(noise(), subtype="FLOAT", container="AIFF")[:5_000], "is cut off"),
    "FLAC cut in half": (FLAC[: len(FLAC) // 2], "cannot be decoded"),
    "FLAC with zeros inside": (FLAC[:5_000] + bytes(2_000) + FLAC[7_000:], "cannot be decoded"),
    "NaN": (with_value(np.nan, 0, 1), "has samples that are not finite"),
    "NaN in one of two channels": (with_value(np.nan, 1, 2), "has samples that are not finite"),
    "infinity": (with_value(np.inf, 0, 1), "has samples that are not finite"),
    "infinity below": (with_value(-np.inf, 0, 1, "DOUBLE"), "has samples that are not finite"),
    "double that no float can be": (with_value(1e300, 0, 1, "DOUBLE"), "has samples that are not finite"),
    "sum that no float can be": (wav(np.full((500, 2), 3e38), subtype="FLOAT"), "has samples that are not finite"),
    "no channels": (with_format(WAV, 2, "<H", 0), "cannot be decoded"),
    "65,535 channels": (with_format(WAV, 2, "<H", 65_535), "some sound"),
    "100 channels": (wav(noise(channels=100)), "has a header that cannot be true"),
    "rate of zero": (with_format(WAV, 4, "<I", 0), "some sound"),
    "rate beyond belief": (with_format(WAV, 4, "<I", 2_000_000_000), "has a header that cannot be true"),
    "1,023 bits": (with_format(WAV, 14, "<H", 1_023), "some sound"),
    "IMA ADPCM": (wav(noise(), subtype="IMA_ADPCM"), "has samples of an unsupported type"),
    "MS ADPCM": (wav(noise(), subtype="MS_ADPCM"), "has samples of an unsupported type"),
    "mu-law": (wav(noise(), subtype="ULAW"), "has samples of an unsupported type"),
    "GSM": (wav(noise(), subtype="GSM610"), "has samples of an unsupported type"),
    "ADPCM, extensible": (wav(noise(), subtype="ULAW", container="WAVEX"), "has samples of an unsupported type"),
    "ADPCM in AIFF": (wav(noise(), subtype="IMA_ADPCM", container="AIFF"), "has samples of an unsupported type"),
    "ADPCM in W64": (wav(noise(), subtype="IMA_ADPCM", container="W64"), "is not sound"),
    "web page": (b"<!DOCTYPE html><html><body>Quota exceeded</body></html>", "got: a web page"),
    "web page behind blank lines": (b"\n\n  <html><body>Sign in</body></html>", "got: a web page"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS pointer"),
    "MIDI": (midi([36]), "is not sound"),
    "MIDI in RIFF": (b"RIFF" + struct.pack("<I", 100) + b"RMIDdata" + midi([36]), "some sound"),
    "text": (b"Once upon a time there was a drum.", "is not sound"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_by_name(case: str) -> None:
    content, fragment = REFUSED[case]
    message = str(refusal_of(content))
    assert (message.startswith("some sound "), fragment in message) == (True, True), message


@pytest.mark.parametrize("case", ["IMA ADPCM", "MS ADPCM", "ADPCM in AIFF"])
def test_unsupported_type_is_refused_before_libsndfile_sees_it(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(soundfile, "SoundFile", opened.append)
    refusal_of(REFUSED[case][0])
    assert opened == []


def test_place_of_what_is_not_finite_is_told() -> None:
    assert "at sample 1,234" in str(refusal_of(REFUSED["NaN"][0]))


def test_place_is_counted_over_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "BLOCK_SAMPLES", 500)
    assert "at sample 1,234" in str(refusal_of(REFUSED["NaN"][0]))


def test_cut_off_file_says_how_much_is_there() -> None:
    assert "expected: 10,000 bytes of samples\n  got: 4,956" in str(refusal_of(WAV[:5_000]))


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    assert "some sound cannot be opened" in str(refusal_of(tmp_path / "nothing.wav"))


def test_folder_is_refused_by_name(tmp_path: Path) -> None:
    assert "some sound cannot be opened" in str(refusal_of(tmp_path))


def test_header_that_lies_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        refusal_of(with_data_length(WAV, 0xFFFF_FF00))
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_hundred_thousand_chunks_do_not_take_long() -> None:
    chunks = (b"tiny" + struct.pack("<I", 0)) * 100_000
    code = "import sys; from backbeat.audio.read import read_info; read_info(sys.stdin.buffer.read(), 'x')"
    done = subprocess.run(
        [sys.executable, "-c", code], input=WAV[:36] + chunks + WAV[36:], capture_output=True, timeout=20, check=False
    )
    # libsndfile may take it or not; what matters is that it ends, and in nothing but an error of ours.
    assert done.returncode == 0 or b"AudioError" in done.stderr


# --- Files from elsewhere --------------------------------------------------------------------------------------------

# Well-formed PCM whose extended header says something else, which plain PCM has no use for.
READ_AS_PCM = {"extensible_container_size_bigger_than_sample_size.wav", "extensible_unsupported_subformat_guid.wav"}
# A WAV may have no samples; a recording may not.
REFUSED_ON_PURPOSE = {"no_samples.wav"}


def fixtures(folder: str) -> list[Path]:
    return sorted((FIXTURES / folder).glob("*.wav"))


needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the WAV fixtures are not beside this checkout")


@needs_fixtures
@pytest.mark.parametrize("path", fixtures("valid"), ids=lambda path: path.stem)
def test_valid_file_is_read(path: Path) -> None:
    if path.name in REFUSED_ON_PURPOSE:
        assert "has no samples" in str(refusal_of(path))
    else:
        expected, _ = soundfile.read(path, always_2d=True)
        np.testing.assert_allclose(mono(path), expected.mean(axis=1), atol=1e-6)


@needs_fixtures
@pytest.mark.parametrize("path", fixtures("invalid") + fixtures("unsupported"), ids=lambda path: path.stem)
def test_invalid_or_unsupported_file_is_refused(path: Path) -> None:
    if path.name in READ_AS_PCM:
        assert len(mono(path)) == read_info(path, path.name).samples
    else:
        assert str(refusal_of(path)).startswith("some sound ")


def test_no_file_stays_open(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(REFUSED["NaN"][0])
    before = len(list(Path("/proc/self/fd").iterdir()))
    refusal_of(tmp_path / "bad.wav")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
