"""The questions that `make bench` answers, each with its bar; ratios are ours to the peer's.

- *features*: seconds of sound turned into a log-mel spectrogram in a second of one core.
- *preprocess*: the whole stage on two processors, wall time; peers are the usual script and `unzip -t`.
- *size*: bytes for a frame of 10 ms, on disk.
- *reading*: random windows in a second, one process, files in the page cache; loading against a training step.
- *change*: one kit of eight added, against a full run.
- *no-op*: `dvc repro` with nothing to do, against one stage with nothing to do.
- *download*: megabytes in a second over loopback, the hash compared; peak memory. See `bench.downloads`.
- *library*: samples described in a second of one core; 7,284 of them by the clock. See `bench.library`.
- *pull*: a processed set from a bucket, against `rclone copy` of the same objects. See `bench.pulls`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from backbeat.audio.logmel import LogMel, Samples
from backbeat.drums.preprocess import preprocess
from backbeat.drums.shards import Shard
from backbeat.executor import default_workers
from bench import material, peers
from bench.downloads import downloads
from bench.library import library
from bench.measure import Result, compare, timed
from bench.pulls import pulls

PROCESSORS = 2
KITS = 8
LONG_HOURS = 3
WINDOW_S = 4.0
WINDOWS = 300

# Of E-GMD's recordings: 444.5 hours in 45,537 of them. The synthetic ones are shorter, and are joined to this.
MEAN_LENGTH_S = 35.0


def on_two_processors() -> None:
    """Keep this process and those it starts on two processors, whatever the machine has; Linux can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])


def features(folder: Path, runs: int) -> Iterator[Result]:
    """Log-mel against librosa's and torchaudio's whole-file calls, on one thread, by the processor's clock."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    # Otherwise threads of librosa's matrix product go on spinning into our turn, and the clock counts them as ours.
    threadpool_limits(1)
    params = material.features()
    logmel, torchaudio = LogMel(params), peers.TorchaudioLogmel(params)
    archive = material.deflated_mini(folder / "features.zip", 6.0)
    for length_s, count in ((35.0, 6), (120.0, 2)):
        sounds = material.sounds(archive, length_s, count)
        total_s = length_s * len(sounds)
        for name, peer in (("librosa", lambda x: peers.librosa_logmel(x, params)), ("torchaudio", torchaudio)):
            difference = np.abs(
                logmel.decibels(logmel(sounds[0])) - np.clip(peer(sounds[0]), params.floor_db, 47.5)
            ).max()
            assert difference <= params.step_db / 2 + 0.01, f"{name} differs by {difference:.3f} dB"

            def ours(sounds: list[np.ndarray] = sounds, total_s: float = total_s) -> float:
                return total_s / timed(lambda: [logmel(one) for one in sounds], time.process_time)

            def theirs(
                peer: Callable[..., object] = peer, sounds: list[np.ndarray] = sounds, total_s: float = total_s
            ) -> float:
                return total_s / timed(lambda: [peer(one) for one in sounds], time.process_time)

            case = f"{name}, recordings of {length_s:.0f} s"
            yield compare("features", case, ours, theirs, unit="x real time", bar=3, kind="at least", runs=runs)


def preprocess_stage(folder: Path, runs: int) -> Iterator[Result]:
    """The stage against the usual script and against reading the archive alone.

    Starting processes takes the same for any archive; the longest one shows what is left of that.
    """
    hour = _hour(folder)
    archives = [("synthetic, 60 min", hour)]
    if material.EXCERPT.exists():
        archives.append(("excerpt, 19 min", material.EXCERPT))
    for name, archive in archives:
        project = material.project(folder / name.partition(",")[0], archive)

        def script(archive: Path = archive) -> float:
            unpacked = folder / "unpacked"
            shutil.rmtree(unpacked, ignore_errors=True)
            return timed(lambda: peers.usual_script(archive, unpacked, material.features()))

        yield _against_unzip(name, project, archive, runs)
        case = f"usual script, {name}"
        yield compare("preprocess", case, _whole_stage(project), script, unit="s", bar=1 / 3, kind="at most", runs=2)
    long = material.repeated(folder / "long.zip", hour, LONG_HOURS)
    project = material.project(folder / "long", long)
    yield _against_unzip(f"synthetic, {60 * LONG_HOURS} min", project, long, min(runs, 3))
    long.unlink()


def size(folder: Path, _: int) -> Iterator[Result]:
    """Bytes of a frame against float32 in gzip; nothing to repeat."""
    archives = [("synthetic, 60 min", _hour(folder))]
    if material.EXCERPT.exists():
        archives.append(("excerpt, 19 min", material.EXCERPT))
    logmel = LogMel(material.features())
    for name, archive in archives:
        project = material.project(folder / name.partition(",")[0], archive)
        bytes_per_frame = preprocess(project).report["totals"]["bytes_per_frame"]
        spectrograms = [logmel.decibels(logmel(sound)) for sound in material.sounds(archive, 35.0, 8)]
        peers.write_gzip_hdf5(folder / "size.h5", spectrograms)
        theirs = (folder / "size.h5").stat().st_size / sum(map(len, spectrograms))
        ratio = bytes_per_frame / theirs
        bar = "at most 50 bytes"
        yield Result("size", f"float32 gzip HDF5, {name}", bytes_per_frame, round(theirs, 1), "bytes/frame",
                     round(ratio, 4), round(ratio, 4), round(ratio, 4), bar, bytes_per_frame <= 50)  # fmt: skip


def reading(folder: Path, runs: int) -> Iterator[Result]:
    """Random windows against other ways to keep the same recordings, then loading against training.

    All read the same windows of recordings of E-GMD's mean length, in one process on one thread, from the page cache;
    but a tar cannot be read at random, so webdataset's windows are what its shuffled stream brings.
    """
    params = material.features()
    window = round(WINDOW_S * params.frame_rate_hz)
    sounds = material.sounds(_hour(folder), MEAN_LENGTH_S, 100)
    logmel = LogMel(params)
    spectrograms = [logmel(sound) for sound in sounds]
    rng = np.random.default_rng(0)
    picks = [
        (int(i), int(rng.integers(len(spectrograms[i]) - window)))
        for i in rng.integers(len(spectrograms), size=WINDOWS)
    ]
    starts = np.cumsum([0, *map(len, spectrograms)])
    shard = Shard(material.shard_of(folder / "ours.h5", spectrograms))

    def ours() -> float:
        return WINDOWS / timed(lambda: [shard.read(int(starts[i]) + at, window) for i, at in picks])

    floats = [logmel.decibels(values) for values in spectrograms]
    for name, peer in _other_readers(folder, sounds, floats, picks, window):
        yield compare("reading", name, ours, peer, unit="windows/s", bar=4, kind="at least", runs=runs)
    project = material.project(folder / "synthetic", _hour(folder))
    preprocess(project)
    yield _loading(project, runs)


def change(folder: Path, runs: int) -> Iterator[Result]:
    """One kit added to seven, against making all eight.

    Shards are a pure function: those of the other seven are what an archive without the eighth kit would have left.
    """
    project = material.project(folder / "change", _hour(folder))
    everything = _whole_stage(project)

    def one_kit() -> float:
        for shard in (project / "data/processed").rglob(f"kit-{KITS:02d}.h5"):
            shard.resolve().unlink()
        return timed(lambda: preprocess(project))

    everything()
    case = f"one kit of {KITS} added, full run"
    yield compare("change", case, one_kit, everything, unit="s", bar=1.3 / KITS, kind="at most", runs=runs)


def no_op(folder: Path, runs: int) -> Iterator[Result]:
    """`dvc repro` of the finished pipeline against that of one finished stage."""
    whole, empty = folder / "whole", folder / "empty"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=material.REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith(("tests/", "reports/")) and not name.endswith("dvc.lock"):
            (whole / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(material.REPOSITORY / name, whole / name)
    params = (
        (whole / "params.yaml").read_text().replace("steps: 600", "steps: 2").replace("channels: 32", "channels: 4")
    )
    (whole / "params.yaml").write_text(params.replace("steps_per_epoch: 50", "steps_per_epoch: 1"))
    empty.mkdir()
    (empty / "dvc.yaml").write_text("stages:\n  one:\n    cmd: touch one\n    outs:\n      - one\n")
    for place in (whole, empty):
        _run(place, "git", "init", "-q")
        # DVCLive asks for the revision.
        _run(place, "git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "--allow-empty",
             "-m", "Start")  # fmt: skip
    _run(empty, "dvc", "init", "-q")
    for place in (whole, empty):
        _run(place, "dvc", "repro")

    def of(place: Path) -> Callable[[], float]:
        return lambda: timed(lambda: _run(place, "dvc", "repro"))

    case = "one finished stage"
    yield compare("no-op", case, of(whole), of(empty), unit="s", bar=1.5, kind="at most", runs=runs)


QUESTIONS: dict[str, Callable[[Path, int], Iterator[Result]]] = {
    "features": features,
    "preprocess": preprocess_stage,
    "size": size,
    "reading": reading,
    "change": change,
    "no-op": no_op,
    "download": downloads,
    "pull": pulls,
    "library": library,
}


def _hour(folder: Path) -> Path:
    archive = folder / "hour.zip"
    return archive if archive.exists() else material.deflated_mini(archive, 60.0)


def _whole_stage(project: Path) -> Callable[[], float]:
    """Return what times a run that finds nothing done, in seconds."""

    def run() -> float:
        shutil.rmtree(project / ".dvc/cache", ignore_errors=True)
        return timed(lambda: preprocess(project))

    return run


def _against_unzip(name: str, project: Path, archive: Path, runs: int) -> Result:
    case = f"{'unzip -t' if shutil.which('unzip') else 'Python testzip'}, {name}"
    unzip = lambda: timed(lambda: _test_archive(archive))  # noqa: E731
    return compare("preprocess", case, _whole_stage(project), unzip, unit="s", bar=1.5, kind="at most", runs=runs)


def _other_readers(
    folder: Path, sounds: list[Samples], spectrograms: list[peers.Frames], picks: list[tuple[int, int]], window: int
) -> Iterator[tuple[str, Callable[[], float]]]:
    import h5py

    peers.write_gzip_hdf5(folder / "peer.h5", spectrograms)
    file = h5py.File(folder / "peer.h5")
    yield "float32 gzip HDF5", lambda: WINDOWS / timed(lambda: [file[str(i)][at : at + window] for i, at in picks])

    array = peers.write_zarr(folder / "peer.zarr", spectrograms, window)
    starts = np.cumsum([0, *map(len, spectrograms)])
    rows = [starts[i] + at for i, at in picks]
    yield "zarr", lambda: WINDOWS / timed(lambda: [array[row : row + window] for row in rows])

    peers.write_webdataset(folder / "peer.tar", spectrograms)
    for name, windows_of in (("one window", peers.one_window), ("every window", peers.every_window)):

        def stream(windows_of: peers.Cut = windows_of) -> float:
            windows = peers.stream_webdataset(folder / "peer.tar", window, windows_of)
            started = time.perf_counter()
            return sum(1 for _ in windows) / (time.perf_counter() - started)

        yield f"webdataset, {name} of each sample", stream

    files = peers.write_wavs(folder / "wavs", sounds, material.features())
    mel = peers.WavWindows(files, material.features(), window)
    yield "WAV + mel on the fly", lambda: WINDOWS / timed(lambda: [mel(i, at) for i, at in picks])


def _loading(project: Path, runs: int) -> Result:
    """Reading and labeling a batch against a training step on it, on all cores."""
    import torch

    from backbeat.config import load_params
    from backbeat.drums.classes import class_map, load_drums
    from backbeat.transcription.augment import augment
    from backbeat.transcription.dataset import WindowDataset, Windows, open_shards, sequences_of
    from backbeat.transcription.model import DrumCRNN
    from backbeat.transcription.training import onset_velocity_loss

    torch.set_num_threads(default_workers())
    params = load_params(project)
    classes, rate = class_map(load_drums(project), params.train.classes), params.preprocess.features.frame_rate_hz
    windows = WindowDataset(
        sequences_of(open_shards(project / "data/processed/egmd_mini"), "train"), classes,
        window_frames=params.train.window_frames, label_frames=params.train.label_frames, frame_rate_hz=rate, seed=1,
    )  # fmt: skip
    model = DrumCRNN(params.preprocess.features.mels, len(classes.classes), params.train.channels,
                     params.train.recurrent_units, params.train.dropout)  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters())
    count = params.train.batch_windows

    def load() -> Windows:
        return Windows(*(torch.stack(column) for column in zip(*(windows[i] for i in range(count)), strict=True)))

    def step(batch: Windows) -> None:
        mixed = augment(batch, params.train, params.preprocess.features.step_db, torch.Generator().manual_seed(1))
        onset, velocity = onset_velocity_loss(*model(mixed.values), mixed)
        optimizer.zero_grad()
        (onset + velocity).backward()
        optimizer.step()

    batch = load()
    case = "loading, a training step on the CPU"
    ours, theirs = (lambda: timed(load)), (lambda: timed(lambda: step(batch)))
    return compare("reading", case, ours, theirs, unit="s/batch", bar=0.05, kind="at most", runs=2 * runs)


def _test_archive(archive: Path) -> None:
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tqq", archive], check=True, stdout=subprocess.DEVNULL)
        return
    with zipfile.ZipFile(archive) as opened:
        opened.testzip()


def _run(folder: Path, *command: str) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
