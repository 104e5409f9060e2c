"""A sample as a browser plays it, and the part of it that it asked for."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import soundfile

# What Chromium, Firefox and Safari play as it is: (format, sample type) -> media type.
_AS_IT_IS = {
    **{("WAV", subtype): "audio/wav" for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT")},
    **{("WAVEX", subtype): "audio/wav" for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT")},
    **{("FLAC", subtype): "audio/flac" for subtype in ("PCM_S8", "PCM_16", "PCM_24")},
    ("MP3", "MPEG_LAYER_III"): "audio/mpeg",
    ("OGG", "VORBIS"): "audio/ogg",
    ("OGG", "OPUS"): "audio/ogg",
}
_MOST_CHANNELS = 2


@dataclass(frozen=True)
class Playable:
    """Bytes for an audio element."""

    content: bytes
    media_type: str


@dataclass(frozen=True)
class Part:
    """An answer to a request for some of the bytes (RFC 9110, 14).

    Args:
        status: 200 for all, 206 for a part, 416 where there is none.
        content: the bytes.
        headers: what is said of them.
    """

    status: int
    content: bytes
    headers: dict[str, str]


def playable(content: bytes) -> Playable:
    """Return a sound file as it is where browsers play it; else as WAV with 16 bits, of its first two channels.

    Raises:
        soundfile.LibsndfileError: if it cannot be decoded.
    """
    info = soundfile.info(io.BytesIO(content))
    media_type = _AS_IT_IS.get((info.format, info.subtype))
    if media_type is not None and info.channels <= _MOST_CHANNELS:
        return Playable(content, media_type)
    audio, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    stream = io.BytesIO()
    soundfile.write(stream, audio[:, :_MOST_CHANNELS], rate_hz, format="WAV", subtype="PCM_16")
    return Playable(stream.getvalue(), "audio/wav")


def part_of(content: bytes, asked: str | None) -> Part:
    """Return what a Range header asks for; one that is not of this form is as good as none, says the standard.

    Args:
        content: all of it.
        asked: the header: `bytes=0-`, `bytes=100-199`, `bytes=-500`.
    """
    size = len(content)
    always = {"Accept-Ranges": "bytes"}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (asked or "").strip())
    if match is None or not any(match.groups()) or (all(match.groups()) and int(match[1]) > int(match[2])):
        return Part(200, content, always)
    if match[1]:
        first, last = int(match[1]), min(int(match[2]) if match[2] else size - 1, size - 1)
    else:
        first, last = max(0, size - int(match[2])), size - 1
    if first > last:
        return Part(416, b"", always | {"Content-Range": f"bytes */{size}"})
    return Part(206, content[first : last + 1], always | {"Content-Range": f"bytes {first}-{last}/{size}"})
