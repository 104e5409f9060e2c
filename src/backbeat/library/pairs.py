"""Which sounds are copies of each other: neighbors by embedding, proven by waveform, each pair once and for all.

The embeddings of all sounds are compared with all others, in blocks; that is a multiplication of matrices, a second
for seven thousand sounds and a minute for fifty thousand. The few neighbors of each are then decoded and correlated,
by all processors. What came of a pair is remembered by the hashes of both sounds.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import scipy
import soundfile
from numpy.typing import NDArray

from backbeat.audio import correlation
from backbeat.audio.correlation import LONGEST_S, UNLIKE, Likeness, compare, waveform
from backbeat.audio.read import read_info
from backbeat.datasets.packed.containers import is_tar
from backbeat.errors import BackbeatError
from backbeat.executor import run_tasks
from backbeat.library.keeping import Bond, Row
from backbeat.library.memo import Memo
from backbeat.library.settings import DuplicateSettings
from backbeat.library.sources import read_samples
from backbeat.progress import progress
from backbeat.provenance import digest_of
from backbeat.storage.staging import disk_errors, open_staging

# Rows of the matrix of similarities that are in memory at once, against all others: 100 MB for 50,000 sounds.
_BLOCK = 512

_SOUNDS_AT_ONCE, _PAIRS_AT_ONCE = 64, 512

# In the memo: how like two sounds are.
_PAIRS = "pairs"

Pair = tuple[str, str]


@dataclass(frozen=True)
class _Decoding:
    project: Path
    rows: tuple[Row, ...]
    file: Path


@dataclass(frozen=True)
class _Place:
    """Where a waveform is: from which sample on, and up to which, of a file of them."""

    file: Path
    begin: int
    end: int


@dataclass(frozen=True)
class _Comparing:
    pairs: tuple[Pair, ...]
    places: dict[str, _Place]


def neighbors(sounds: Sequence[str], vectors: NDArray[np.float32], settings: DuplicateSettings) -> dict[Pair, float]:
    """Return pairs of sounds whose embeddings are similar: of each sound with its nearest ones.

    Args:
        sounds: their hashes.
        vectors: shape (sounds, dimensions), each of length 1 or zero.
        settings: how similar, and how many.

    Returns:
        the cosine of each pair, the smaller hash first.
    """
    found: dict[Pair, float] = {}
    for start in range(0, len(sounds), _BLOCK):
        similar = vectors[start : start + _BLOCK] @ vectors.T
        similar[np.arange(len(similar)), start + np.arange(len(similar))] = -1
        if similar.shape[1] > settings.candidates:
            least = np.partition(similar, -settings.candidates, axis=1)[:, -settings.candidates, None]
            similar[similar < least] = -1
        for row, column in zip(*np.nonzero(similar >= settings.candidate_similarity), strict=True):
            one, other = sorted((sounds[start + row], sounds[column]))
            found[one, other] = float(similar[row, column])
    return found


def likenesses(
    project: Path, pairs: Sequence[Pair], rows: Mapping[str, Row], memo: Memo, *, workers: int | None = None
) -> dict[Pair, Likeness]:
    """Return how like the waveforms of each pair are; what was compared before is not compared again.

    Args:
        project: the root of the repository.
        pairs: hashes of sounds.
        rows: for each sound a file of it, as the scan's table has it.
        memo: what is remembered.
        workers: processes. Default: one per processor.
    """
    fingerprint = _fingerprint()
    known = memo.known(_PAIRS, fingerprint, [_key(pair) for pair in pairs])
    found = {pair: Likeness(*json.loads(known[_key(pair)])) for pair in pairs if _key(pair) in known}
    todo = sorted(pair for pair in pairs if pair not in found)
    with _scratch(project) as folder:
        places = _decoded(
            project, [rows[sound] for sound in sorted({sound for pair in todo for sound in pair})], folder, workers
        )
        with progress("compare", len(todo), unit="pairs") as advance:
            for task, results in run_tasks(_compare, list(_comparing(todo, places)), workers=workers):
                for pair, likeness in zip(task.pairs, results, strict=True):
                    found[pair] = likeness
                    # A file that is not there now, or has changed, says nothing of the sound.
                    if task.places.keys() >= {*pair}:
                        memo.remember(_PAIRS, fingerprint, _key(pair), json.dumps(astuple(likeness)).encode())
                advance(len(task.pairs))
    memo.forget_others(_PAIRS, fingerprint)
    return found


def bond(likeness: Likeness, settings: DuplicateSettings) -> Bond | None:
    """Return what two sounds are to each other; None where they are two."""
    if likeness.common < settings.common_energy:
        return None
    same = likeness.correlation >= settings.same_correlation and likeness.tilt_db <= settings.same_tilt_db
    if same and likeness.detail >= settings.same_detail:
        return "same_sound"
    return "near" if likeness.detail >= settings.near_detail else None


def _fingerprint() -> str:
    code = Path(str(correlation.__file__)).read_text(encoding="utf-8")
    return digest_of([code, scipy.__version__, np.__version__])


def _key(pair: Pair) -> str:
    """Return half of each hash: enough for any number of sounds, and half the memo."""
    return f"{pair[0][:32]}{pair[1][:32]}"


@contextlib.contextmanager
def _scratch(project: Path) -> Iterator[Path]:
    """Yield a folder for the waveforms, on the disk of the staging store."""
    folder = open_staging(project).root / "library" / f"waveforms.{os.getpid()}-{secrets.token_hex(4)}.part"
    with disk_errors(folder):
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _decoded(project: Path, rows: Sequence[Row], folder: Path, workers: int | None) -> dict[str, _Place]:
    tasks = [_Decoding(project, tuple(some), folder / f"{at}.npy") for at, some in enumerate(_batches(rows))]
    places: dict[str, _Place] = {}
    with progress("decode", len(rows), unit="sounds") as advance:
        for task, made in run_tasks(_decode, tasks, workers=workers):
            places.update(made)
            advance(len(task.rows))
    return places


def _batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield what one task decodes: some files, or what is in one archive; a tar is read once."""
    containers: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        containers.setdefault((row["source"], row["container"]), []).append(row)
    for (_, container), some in containers.items():
        size = len(some) if container is not None and is_tar(container) else _SOUNDS_AT_ONCE
        yield from (some[start : start + size] for start in range(0, len(some), size))


def _decode(task: _Decoding) -> dict[str, _Place]:
    """Write the waveforms of some sounds into one file; a sound that cannot be read any more has none."""
    places: dict[str, _Place] = {}
    waves: list[NDArray[np.int16]] = []
    end = 0
    for row, content in read_samples(task.project, task.rows):
        if not isinstance(content, BackbeatError):
            wave = _wave(content, row["sample"])
            waves.append(wave)
            places[row["audio_sha256"]] = _Place(task.file, end, end + len(wave))
            end += len(wave)
    np.save(task.file, np.concatenate([np.zeros(0, np.int16), *waves]))
    return places


def _wave(content: bytes, name: str) -> NDArray[np.int16]:
    try:
        rate = read_info(content, name).sample_rate_hz
        # Half as much again: there may be silence in front.
        samples, _ = soundfile.read(io.BytesIO(content), round(1.5 * LONGEST_S * rate), dtype="float32", always_2d=True)
    except (BackbeatError, soundfile.LibsndfileError):
        return np.zeros(0, np.int16)
    return waveform(samples.mean(axis=1), rate)


def _comparing(pairs: Sequence[Pair], places: Mapping[str, _Place]) -> Iterator[_Comparing]:
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        some = tuple(pairs[start : start + _PAIRS_AT_ONCE])
        yield _Comparing(some, {sound: places[sound] for pair in some for sound in pair if sound in places})


def _compare(task: _Comparing) -> list[Likeness]:
    files = {place.file: np.load(place.file, mmap_mode="r") for place in task.places.values()}
    nothing = np.zeros(0, np.int16)

    def wave(sound: str) -> NDArray[np.int16]:
        place = task.places.get(sound)
        return nothing if place is None else np.asarray(files[place.file][place.begin : place.end])

    return [
        compare(one, other) if len(one) and len(other) else UNLIKE
        for one, other in ((wave(pair[0]), wave(pair[1])) for pair in task.pairs)
    ]
