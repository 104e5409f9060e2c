"""A small library, set by hand: a dozen real files and the tables that the stages would have made of them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import yaml

from backbeat.audio.resemblance import embedding, to_bytes
from backbeat.library import tables
from backbeat.library.flac import pack
from backbeat.library.ledger import Entry, append
from backbeat.library.vault import store

REPOSITORY = Path(__file__).parents[1]

# Markup in a name must not become markup on a page.
ODD = "Snares/Snare <b>tight größer.wav"


@dataclass(frozen=True)
class Sample:
    """A file, and what is known of its sound."""

    path: str
    sound_class: str | None
    duration_ms: int
    hz: float
    known: dict[str, Any] = field(default_factory=dict)
    subtype: str = "PCM_16"
    rate_hz: int = 44_100
    channels: int = 1
    score: float | None = None
    error: str | None = None
    tier: str = "original"

    @property
    def sample(self) -> str:
        return f"kits/{self.path}"

    def content(self) -> bytes:
        """The file: a tone that decays."""
        if self.error:
            return b"RIFF"
        time_s = np.arange(self.rate_hz * self.duration_ms // 1000) / self.rate_hz
        mono = 0.8 * np.sin(2 * np.pi * self.hz * time_s) * np.exp(-3000 * time_s / self.duration_ms)
        stream = io.BytesIO()
        audio = np.repeat(mono[:, None], self.channels, axis=1)
        soundfile.write(stream, audio, self.rate_hz, format="WAV", subtype=self.subtype)
        return stream.getvalue()


def _words(brightness: str, weight: str, punch: str, **others: Any) -> dict[str, Any]:
    return {"brightness": brightness, "weight": weight, "punch": punch, **others}


_DARK = _words("dark", "heavy", "punchy", pitch_hz=49.0, note="G1 +0")
_BRIGHT = _words("bright", "thin", "soft")
_LOOP = {"kind": "loop", "tempo_confidence": 0.9}

SAMPLES = (
    Sample(
        "808s/808 long.wav",
        "bass",
        2000,
        49.0,
        _words("dark", "heavy", "soft", pitch_hz=49.0, note="G1 +0"),
        score=81.0,
    ),
    Sample("Hats/CH 1.wav", "closed_hat", 80, 8000.0, _BRIGHT, "FLOAT", score=75.5),
    Sample("Hats/OH 1.wav", "open_hat", 400, 7000.0, _BRIGHT, score=72.0),
    Sample(
        "Kicks/BD 1.wav",
        "kick",
        200,
        120.0,
        _words("bright", "medium", "punchy", pitch_hz=120.0, note="B2 -49"),
        score=60.0,
    ),
    Sample("Kicks/Kick 01.wav", "kick", 250, 50.0, _DARK, score=92.0),
    Sample("Kicks/Kick 02.wav", "kick", 450, 55.0, _DARK, "PCM_24", 48_000, score=88.0),
    Sample(
        "Loops/House 124.wav", "drums", 1935, 300.0, _words("neutral", "medium", "medium", **_LOOP, tempo_bpm=124.0)
    ),
    Sample(
        "Loops/dusty break.wav",
        "drums",
        2609,
        220.0,
        _words("dark", "medium", "medium", **_LOOP, tempo_bpm=92.0, key="A minor", key_confidence=0.8),
        channels=2,
        score=79.0,
    ),
    Sample("Old/Kick 01 copy.wav", "kick", 250, 50.0, _DARK, score=85.0),
    Sample("Old/from tape.wav", "tom", 500, 90.0, _words("neutral", "medium", "medium"), score=40.0, tier="archive"),
    Sample(ODD, "snare", 180, 200.0, _words("neutral", "medium", "punchy"), score=90.0),
    Sample("broken.wav", None, 0, 0.0, error="it ends after 4 bytes"),
)

_RULES = ("peak", "noise", "length")
_CURATION = pa.schema([*tables.CURATION, *((rule, pa.float64()) for rule in _RULES)])


def new_library(folder: Path) -> Path:
    """Make a project with these samples and their tables; there is no catalog yet. Returns its root."""
    for below in (".dvc", "configs", "data/library", "samples"):
        (folder / below).mkdir(parents=True)
    (folder / "params.yaml").touch()
    settings = yaml.safe_load((REPOSITORY / "configs/library.yaml").read_text(encoding="utf-8"))
    settings["sources"] = [{"name": "kits", "path": "samples", "url": "https://example.org/kits", "license": "CC0-1.0"}]
    (folder / "configs/library.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for one in SAMPLES:
        if one.tier == "original":
            (folder / "samples" / one.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "samples" / one.path).write_bytes(one.content())
        else:
            _archive(folder, one)
    write_tables(folder, SAMPLES)
    return folder


def write_tables(project: Path, samples: tuple[Sample, ...]) -> None:
    """Write what the stages would have found out about some of the samples."""
    readable = [one for one in samples if one.error is None]
    sounds = {sound_of(one): one for one in readable}
    tables.write_table(project, "scan", tables.SCAN, map(_scanned, samples))
    described = (_described(digest, one) for digest, one in sounds.items())
    tables.write_table(project, "descriptors", tables.DESCRIPTORS_TABLE, described)
    tables.write_table(
        project,
        "embeddings",
        tables.EMBEDDINGS,
        ({"audio_sha256": digest, "embedding": to_bytes(_embedding(one))} for digest, one in sounds.items()),
    )
    tables.write_table(project, "duplicates", tables.DUPLICATES, _duplicates(readable))
    tables.write_table(project, "curation", _CURATION, map(_curated, readable))


def sound_of(one: Sample) -> str:
    """The digest of a sound: that of its name's class, length and pitch, so that a copy has the same."""
    return hashlib.sha256(f"{one.duration_ms} {one.hz}".encode()).hexdigest()


def _archive(project: Path, one: Sample) -> None:
    """Keep a sample as FLAC alone, as if its file had been removed."""
    content = one.content()
    file_sha256, flac = hashlib.sha256(content).hexdigest(), pack(content)
    store(project, file_sha256, flac)
    digests = (hashlib.sha256(flac).hexdigest(), hashlib.md5(flac).hexdigest())
    append(project, [Entry(one.sample, file_sha256, sound_of(one), len(content), *digests)])


def _scanned(one: Sample) -> dict[str, Any]:
    content = one.content()
    row = {
        "sample": one.sample,
        "source": "kits",
        "path": one.path,
        "source_url": "https://example.org/kits",
        "license": "CC0-1.0",
        "tier": one.tier,
        "file_sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "error": one.error,
    }
    if one.error:
        return row
    return row | {
        "audio_sha256": sound_of(one),
        "format": "WAV",
        "subtype": one.subtype,
        "bit_depth": 24 if one.subtype == "PCM_24" else 32 if one.subtype == "FLOAT" else 16,
        "is_float": one.subtype == "FLOAT",
        "sample_rate_hz": one.rate_hz,
        "channels": one.channels,
        "frames": one.rate_hz * one.duration_ms // 1000,
        "duration_s": one.duration_ms / 1000,
        "peak_db": -1.9,
        "clipped_samples": 0,
        "silent": False,
        "dc_offset": 0.0,
    }


def _described(digest: str, one: Sample) -> dict[str, Any]:
    return {
        "audio_sha256": digest,
        "kind": "one-shot",
        "sound_class": one.sound_class,
        "class_confidence": 0.9,
        "class_source": "name",
        "spectral_centroid_hz": one.hz,
    } | one.known


def _embedding(one: Sample) -> Any:
    audio, rate_hz = soundfile.read(io.BytesIO(one.content()), dtype="float32", always_2d=True)
    return embedding(audio.mean(axis=1), rate_hz)


def _duplicates(samples: list[Sample]) -> list[dict[str, Any]]:
    first = {sound_of(one): one.sample for one in reversed(samples)}
    twice = [one for one in samples if sum(sound_of(one) == sound_of(other) for other in samples) > 1]
    return [
        {
            "sample": one.sample,
            "group": 1,
            "tier": "keeper" if first[sound_of(one)] == one.sample else "exact",
            "keeper": first[sound_of(one)],
            "similarity": 1.0,
            "reason": "the same file; kept by path",
        }
        for one in twice
    ]


def _curated(one: Sample) -> dict[str, Any]:
    points = {} if one.score is None else dict.fromkeys(_RULES, one.score / len(_RULES))
    chosen = (one.score or 0) >= 70
    return {
        "sample": one.sample,
        "audio_sha256": sound_of(one),
        "score": one.score,
        "curated_class": "loop" if one.known.get("kind") == "loop" else one.sound_class,
        "chosen": chosen,
        "state": "chosen" if chosen else "below threshold",
        "reason": "chosen" if chosen else "score below 70",
        "production_path": f"{one.sound_class}/{Path(one.path).stem}.wav" if chosen else None,
        **points,
    }
