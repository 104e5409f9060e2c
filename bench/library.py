"""The question *library*: describing samples against a plain librosa script, and a whole library against the clock.

The script is what one finds in tutorials and repositories: `librosa.load`, and for each descriptor the call of that
name. It is let off what would make it much slower: YIN in place of pYIN, chroma of the spectrum in place of constant-Q,
one spectrum for the separation of harmonic and percussive parts, and no search for half and double tempo.
"""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import soundfile
import yaml

from backbeat.audio.read import read_info
from backbeat.errors import AudioError
from backbeat.library.generated import generate
from backbeat.library.measure import measure
from backbeat.library.settings import LIBRARY_FILE, LIBRARY_FOLDER, Source, load_settings
from bench import material
from bench.measure import Result, compare, timed

SOUNDS = 120
WHOLE = 7_284
WHOLE_S = 240.0
SEED = 9


def library(folder: Path, runs: int) -> Iterator[Result]:
    """Sounds described in a second of one core, by the processor's clock; and 7,284 files on two, by the wall's."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    samples = folder / "some" / "samples"
    generate(samples, SOUNDS, SEED)
    contents = [path.read_bytes() for path in sorted(samples.rglob("*.wav"))]
    readable = [content for content in contents if _is_readable(content)]
    settings = load_settings(material.REPOSITORY).describe

    def ours() -> float:
        work = lambda: [measure(content, "sample", settings) for content in readable]  # noqa: E731
        return len(readable) / timed(work, time.process_time)

    def theirs() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a window longer than the sound; a tuning of no partials
            return len(readable) / timed(lambda: [librosa_script(content) for content in readable], time.process_time)

    case = "librosa script, one-shots and loops"
    yield compare("library", case, ours, theirs, unit="sounds/s", bar=5, kind="at least", runs=runs)
    yield from _whole(folder / "whole")


def librosa_script(content: bytes) -> dict[str, Any]:
    """Return the same descriptors, by a call for each."""
    import librosa

    channels, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    mono = librosa.to_mono(channels.T)
    spectrum = np.abs(librosa.stft(mono))
    harmonic, percussive = librosa.decompose.hpss(spectrum)
    mfcc = librosa.feature.mfcc(y=mono, sr=rate, n_mfcc=13)
    strength = librosa.onset.onset_strength(y=mono, sr=rate)
    pitch = librosa.yin(mono, fmin=27.5, fmax=2000, sr=rate, frame_length=4096)
    found: dict[str, Any] = {
        "peak": np.abs(channels).max(),
        "true_peak": max(np.abs(librosa.resample(one, orig_sr=rate, target_sr=4 * rate)).max() for one in channels.T),
        "rms": librosa.feature.rms(y=mono),
        "centroid": librosa.feature.spectral_centroid(y=mono, sr=rate).mean(),
        "bandwidth": librosa.feature.spectral_bandwidth(y=mono, sr=rate).mean(),
        "rolloff": librosa.feature.spectral_rolloff(y=mono, sr=rate).mean(),
        "flatness": librosa.feature.spectral_flatness(y=mono).mean(),
        "contrast": librosa.feature.spectral_contrast(y=mono, sr=rate).mean(),
        "zero_crossings": librosa.feature.zero_crossing_rate(mono).mean(),
        "harmonic_percussive": (harmonic**2).sum() / max((percussive**2).sum(), 1e-12),
        "mfcc": (mfcc.mean(axis=1), mfcc.std(axis=1)),
        "onsets": librosa.onset.onset_detect(onset_envelope=strength, sr=rate),
        "pitch": np.median(pitch),
        "embedding": librosa.power_to_db(librosa.feature.melspectrogram(y=mono, sr=rate, n_mels=32)),
    }
    short = math.ceil(0.4 * rate) + 1 - len(channels)
    padded = np.pad(channels, ((0, max(0, short)), (0, 0)))
    with np.errstate(divide="ignore"):
        found["loudness"] = pyloudnorm.Meter(rate).integrated_loudness(padded)
    envelope = np.abs(mono)
    found["attack"] = np.argmax(envelope > 0.9 * envelope.max()) - np.argmax(envelope > 0.2 * envelope.max())
    found["decay"] = np.flatnonzero(envelope > 0.1 * envelope.max())[-1] - envelope.argmax()
    if len(mono) > rate / 2:
        found["tempo"] = librosa.feature.tempo(onset_envelope=strength, sr=rate)
        found["chroma"] = librosa.feature.chroma_stft(y=mono, sr=rate, n_fft=8192).mean(axis=1)
    return found


def _whole(project: Path) -> Iterator[Result]:
    """Scan and describe a whole library in a fresh process; once, since it takes minutes."""
    for name in (".dvc", "configs", LIBRARY_FOLDER):
        (project / name).mkdir(parents=True)
    (project / "params.yaml").touch()
    settings = yaml.safe_load((material.REPOSITORY / LIBRARY_FILE).read_text(encoding="utf-8"))
    source = Source(name="made", generate=WHOLE)
    settings["sources"] = [source.model_dump(exclude_none=True)]
    (project / LIBRARY_FILE).write_text(yaml.safe_dump(settings), encoding="utf-8")
    generate(source.place(project), WHOLE)
    shown = subprocess.run([sys.executable, "-c", _SCRIPT, project], check=True, stdout=subprocess.PIPE, text=True)
    wall_s, worker_bytes = map(float, shown.stdout.split())
    shutil.rmtree(project)
    for case, ours, most, unit in (
        (f"{WHOLE:,} files scanned and described on 2 cores, 4 minutes", wall_s, WHOLE_S, "s"),
        ("memory of a worker meanwhile, 1 GB", worker_bytes / 1e6, 1000.0, "MB"),
    ):
        ratio = float(f"{ours / most:.4g}")
        yield Result("library", case, float(f"{ours:.4g}"), most, unit, ratio, ratio, ratio, "at most 1", ratio <= 1)


_SCRIPT = """
import pathlib, resource, sys, time
from backbeat.library.describe import describe
from backbeat.library.scan import scan
if __name__ == "__main__":
    project, started = pathlib.Path(sys.argv[1]), time.perf_counter()
    scan(project, workers=2)
    done = describe(project, workers=2)
    assert done.failed == 0, done.errors
    print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


def _is_readable(content: bytes) -> bool:
    try:
        samples = read_info(content, "a sample").samples
    except AudioError:
        return False
    # The script has no answer for silence, and none for what is shorter than its window.
    return samples > 4096 and bool(np.abs(soundfile.read(io.BytesIO(content))[0]).max() > 0)
