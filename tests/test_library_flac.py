"""A WAV file as FLAC and back: the identical bytes, or a refusal."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from backbeat.errors import LibraryError
from backbeat.library.flac import pack, unpack

FIXTURES = Path(__file__).parents[2] / "shared" / "data" / "wav-fixtures"


def chunk(kind: bytes, content: bytes, padding: bytes = b"\0") -> bytes:
    return kind + struct.pack("<I", len(content)) + content + (padding if len(content) % 2 else b"")


def form(channels: int = 1, bits: int = 16, tag: int = 1, rate_hz: int = 44_100) -> bytes:
    frame_bytes = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * frame_bytes, frame_bytes, bits)


def wav(*chunks: bytes, size_bytes: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size_bytes is None else size_bytes) + body


SOUND = np.random.default_rng(1).integers(-20_000, 20_000, 500, np.int16).tobytes()

CHUNKS = st.builds(
    chunk,
    st.sampled_from([b"LIST", b"smpl", b"cue ", b"acid", b"bext", b"JUNK", b"id3 "]),
    st.binary(max_size=60),
    st.sampled_from([b"\0", b"x"]),
)


@st.composite
def wavs(draw: st.DrawFn) -> bytes:
    """WAV files as programs write them, and as they should not."""
    channels, bits = draw(st.integers(1, 8)), draw(st.sampled_from([8, 16, 24]))
    frame_bytes = channels * bits // 8
    frames = draw(st.integers(1, 40))
    sound = draw(st.binary(min_size=frames * frame_bytes, max_size=frames * frame_bytes))
    fmt = form(channels, bits, rate_hz=draw(st.sampled_from([8_000, 39_063, 44_100, 96_000])))
    if draw(st.booleans()):  # extensible
        fmt = struct.pack("<H", 0xFFFE) + fmt[2:] + struct.pack("<HHIH", 22, bits, 0, 1)
        fmt += bytes.fromhex("000000001000800000aa00389b71")
    return wav(
        *draw(st.lists(CHUNKS, max_size=2)),
        chunk(b"fmt ", fmt + draw(st.sampled_from([b"", b"\0\0", b"?"]))),
        *draw(st.lists(CHUNKS, max_size=2)),
        chunk(b"data", sound, draw(st.sampled_from([b"\0", b"x", b""]))),
        *draw(st.lists(CHUNKS, max_size=3)),
        draw(st.one_of(st.just(b""), st.binary(max_size=20))),
        size_bytes=draw(st.sampled_from([None, 0, 2**32 - 1, 7])),
    )


@given(wavs())
@settings(max_examples=150, deadline=None)
def test_any_wav_of_whole_numbers_comes_back_to_the_byte(original: bytes) -> None:
    assert unpack(pack(original)) == original


@given(st.sampled_from([1, 2, 3]), st.integers(1, 8), st.data())
@settings(max_examples=30, deadline=None)
def test_what_a_player_hears_of_the_flac_is_the_sound_of_the_wav(
    sample_bytes: int, channels: int, data: st.DataObject
) -> None:
    sound = data.draw(st.binary(min_size=sample_bytes * channels * 20, max_size=sample_bytes * channels * 20))
    original = wav(chunk(b"fmt ", form(channels, 8 * sample_bytes)), chunk(b"data", sound))
    (heard, rate_hz), (expected, _) = (
        soundfile.read(io.BytesIO(content), dtype="int32") for content in (pack(original), original)
    )
    assert rate_hz == 44_100
    np.testing.assert_array_equal(heard, expected)


REFUSED = {
    "floating-point": wav(chunk(b"fmt ", form(1, 32, 3)), chunk(b"data", bytes(8))),
    "32 bits": wav(chunk(b"fmt ", form(1, 32)), chunk(b"data", bytes(8))),
    "0x0002": wav(chunk(b"fmt ", form(1, 16, 2)), chunk(b"data", bytes(8))),
    "9 channels": wav(chunk(b"fmt ", form(9, 8)), chunk(b"data", bytes(9))),
    "containers of another size": wav(chunk(b"fmt ", form(1, 16)[:12] + b"\4\0\x10\0"), chunk(b"data", bytes(8))),
    "samples are cut off": wav(chunk(b"fmt ", form()), chunk(b"data", bytes(8)))[:-1],
    "last sample is cut off": wav(chunk(b"fmt ", form()), chunk(b"data", bytes(7))),
    "no samples": wav(chunk(b"fmt ", form()), chunk(b"data", b"")),
    "no chunk of samples": wav(chunk(b"fmt ", form())),
    "before their format": wav(chunk(b"data", bytes(8)), chunk(b"fmt ", form())),
    "two formats": wav(chunk(b"fmt ", form()), chunk(b"fmt ", form()), chunk(b"data", bytes(8))),
    "FLAC cannot hold": wav(chunk(b"fmt ", form(rate_hz=2_000_000)), chunk(b"data", bytes(8))),
    "16 MB": wav(chunk(b"fmt ", form()), chunk(b"data", bytes(8)), chunk(b"bext", bytes(2**24))),
    "RF64": b"RF64" + wav(chunk(b"fmt ", form()), chunk(b"data", bytes(8)))[4:],
    "not a WAV": b"OggS" + bytes(100),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_flac_cannot_hold_exactly_is_refused_with_the_reason(reason: str) -> None:
    with pytest.raises(LibraryError) as raised:
        pack(REFUSED[reason])
    assert reason in raised.value.what


@pytest.mark.parametrize("at", [3, 60, -300])
def test_a_damaged_flac_gives_no_file(at: int) -> None:
    flac = bytearray(pack(wav(chunk(b"fmt ", form()), chunk(b"data", SOUND))))
    for position in range(at, at + 40):
        flac[position] ^= 0xFF
    with pytest.raises(LibraryError):
        unpack(bytes(flac))


def test_a_flac_that_is_cut_off_gives_no_file() -> None:
    flac = pack(wav(chunk(b"fmt ", form()), chunk(b"data", SOUND)))
    for length in (0, 30, 90, len(flac) // 2):
        with pytest.raises(LibraryError):
            unpack(flac[:length])


def test_real_files_come_back_or_are_refused() -> None:
    files = sorted(FIXTURES.rglob("*.wav"))
    if not files:
        pytest.skip("the fixtures of WAV files are not on this machine")
    packed = 0
    for file in files:
        original = file.read_bytes()
        try:
            flac = pack(original)
        except LibraryError:
            assert file.parent.name != "valid" or any(word in file.name for word in ("float", "32", "no_samples"))
        else:
            assert unpack(flac) == original, file.name
            packed += 1
    assert packed >= 20


WELL_FORMED = [
    wav(chunk(b"fmt ", form(1, 24)), chunk(b"smpl", bytes(37)), chunk(b"data", SOUND[:999]), chunk(b"LIST", b"abc")),
    wav(chunk(b"JUNK", b"12345"), chunk(b"fmt ", form(2, 16)), chunk(b"data", SOUND)),
    wav(chunk(b"fmt ", form(1, 8)), chunk(b"data", SOUND[:77]), chunk(b"cue ", bytes(10)), chunk(b"acid", bytes(24))),
]


@pytest.mark.skipif(shutil.which("flac") is None, reason="the program flac is not installed")
@pytest.mark.parametrize("original", WELL_FORMED)
def test_the_program_flac_restores_what_we_pack_and_we_what_it_packs(original: bytes, tmp_path: Path) -> None:
    ours, theirs, back = tmp_path / "ours.flac", tmp_path / "theirs.flac", tmp_path / "back.wav"
    ours.write_bytes(pack(original))
    (tmp_path / "original.wav").write_bytes(original)
    keep = ["flac", "--silent", "--keep-foreign-metadata"]
    # Of more than 16 bits it would write another `fmt ` chunk than the one it has kept.
    subprocess.run([*keep, "--decode", "--force-legacy-wave-format", "-o", back, ours], check=True)
    assert back.read_bytes() == original
    subprocess.run([*keep, "-o", theirs, tmp_path / "original.wav"], check=True)
    assert unpack(theirs.read_bytes()) == original
