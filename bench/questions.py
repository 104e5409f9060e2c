"""The questions that `make bench` answers, each with its bar; ratios are ours to the peer's.

- *features*: seconds of sound turned into a log-mel spectrogram in a second of one core.
- *preprocess*: the whole stage on two processors, wall time; peers are the usual script and `unzip -t`.
- *size*: bytes for a frame of 10 ms, on disk.
- *reading*: random windows in a second, one process, files in the page cache; loading against a training step.
- *change*: one kit of eight added, against a full run.
- *no-op*: `dvc repro` with nothing to do, against one stage with nothing to do.
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

from backbeat.audio.logmel import LogMel
from backbeat.drums.preprocess import preprocess
from backbeat.drums.shards import Shard
from backbeat.executor import default_workers
from bench import material, peers
from bench.measure import Result, compare, timed

PROCESSORS = 2
KITS = 8
WINDOW_S = 4.0
WINDOWS = 300


def on_two_processors() -> None:
    """Keep this process and those it starts on two processors, whatever the machine has; Linux can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])


def features(folder: Path, runs: int) -> Iterator[Result]:
    """Log-mel against librosa's and torchaudio's whole-file calls, on one thread, by the processor's clock."""
    import torch

    torch.set_num_threads(1)
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
    """The stage against the usual script and against reading the archive alone."""
    archives = [("synthetic, 60 min", material.deflated_mini(folder / "hour.zip", 60.0))]
    if material.EXCERPT.exists():
        archives.append(("excerpt, 19 min", material.EXCERPT))
    for name, archive in archives:
        project = material.project(folder / name.partition(",")[0], archive)

        def ours(project: Path = project) -> float:
            shutil.rmtree(project / ".dvc/cache", ignore_errors=True)
            return timed(lambda: preprocess(project))

        def unzip(archive: Path = archive) -> float:
            return timed(lambda: _test_archive(archive))

        def script(archive: Path = archive) -> float:
            unpacked = folder / "unpacked"
            shutil.rmtree(unpacked, ignore_errors=True)
            return timed(lambda: peers.usual_script(archive, unpacked, material.features()))

        reader = "unzip -t" if shutil.which("unzip") else "Python's testzip"
        yield compare("preprocess", f"{reader}, {name}", ours, unzip, unit="s", bar=1.5, kind="at most", runs=runs)
        yield compare("preprocess", f"usual script, {name}", ours, script, unit="s", bar=1 / 3, kind="at most", runs=2)


def size(folder: Path, _: int) -> Iterator[Result]:
    """Bytes of a frame against float32 in gzip; nothing to repeat."""
    archives = [("synthetic, 60 min", folder / "hour.zip")]
    if material.EXCERPT.exists():
        archives.append(("excerpt, 19 min", material.EXCERPT))
    logmel = LogMel(material.features())
    for name, archive in archives:
        if not archive.exists():
            material.deflated_mini(archive, 60.0)
        project = folder / name.partition(",")[0]
        if not project.exists():
            material.project(project, archive)
        bytes_per_frame = preprocess(project).report["totals"]["bytes_per_frame"]
        spectrograms = [logmel.decibels(logmel(sound)) for sound in material.sounds(archive, 35.0, 8)]
        peers.write_gzip_hdf5(folder / "size.h5", spectrograms)
        theirs = (folder / "size.h5").stat().st_size / sum(map(len, spectrograms))
        ratio = bytes_per_frame / theirs
        bar = "at most 50 bytes"
        yield Result("size", f"float32 gzip HDF5, {name}", bytes_per_frame, round(theirs, 1), "bytes/frame",
                     round(ratio, 4), round(ratio, 4), round(ratio, 4), bar, bytes_per_frame <= 50)  # fmt: skip


def reading(folder: Path, runs: int) -> Iterator[Result]:
    """Random windows against four other ways to keep the same spectrograms, then loading against training."""
    archive = folder / "hour.zip"
    if not archive.exists():
        material.deflated_mini(archive, 60.0)
    project = folder / "synthetic"
    if not project.exists():
        material.project(project, archive)
    preprocess(project)
    window = round(WINDOW_S * material.features().frame_rate_hz)
    shards = [Shard(path) for path in sorted((project / "data/processed").rglob("*.h5"))]
    places = [
        (shard, int(row["first_frame"]), int(row["n_frames"]))
        for shard in shards
        for row in shard.sequences
        if row["n_frames"] > window
    ]
    rng = np.random.default_rng(0)
    chosen = [(*places[i], int(rng.integers(places[i][2] - window))) for i in rng.integers(len(places), size=WINDOWS)]

    def ours() -> float:
        return WINDOWS / timed(lambda: [shard.read(first + start, window) for shard, first, _, start in chosen])

    for name, peer in _other_readers(folder, archive, window, rng):
        yield compare("reading", name, ours, peer, unit="windows/s", bar=4, kind="at least", runs=runs)
    yield _loading(project, runs)


def change(folder: Path, runs: int) -> Iterator[Result]:
    """One kit added to seven, against making all eight."""
    most = material.deflated_mini(folder / "seven.zip", 60.0, tuple(range(1, KITS)))
    archive = folder / "hour.zip"
    if not archive.exists():
        material.deflated_mini(archive, 60.0)
    project = material.project(folder / "change", most)
    before = folder / "before"
    preprocess(project)
    shutil.copytree(project / ".dvc/cache", before)
    material.use_archive(project, archive)

    def one_kit() -> float:
        shutil.rmtree(project / ".dvc/cache")
        shutil.copytree(before, project / ".dvc/cache")
        return timed(lambda: preprocess(project))

    def everything() -> float:
        shutil.rmtree(project / ".dvc/cache")
        return timed(lambda: preprocess(project))

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
}


def _other_readers(
    folder: Path, archive: Path, window: int, rng: np.random.Generator
) -> Iterator[tuple[str, Callable[[], float]]]:
    import h5py
    import soundfile
    import torch
    import webdataset

    params = material.features()
    logmel, torchaudio = LogMel(params), peers.TorchaudioLogmel(params)
    wavs = [wav for wav in material.recordings(archive, 300) if len(wav) > 2 * window * params.hop_samples + 50_000]
    sounds = [np.frombuffer(wav, "<i2", offset=44).astype(np.float32) / 32_768 for wav in wavs]
    spectrograms = [logmel.decibels(logmel(sound)) for sound in sounds]
    picks = [
        (int(i), int(rng.integers(len(spectrograms[i]) - window)))
        for i in rng.integers(len(spectrograms), size=WINDOWS)
    ]

    peers.write_gzip_hdf5(folder / "peer.h5", spectrograms)
    file = h5py.File(folder / "peer.h5")
    yield "float32 gzip HDF5", lambda: WINDOWS / timed(lambda: [file[str(i)][at : at + window] for i, at in picks])

    array = peers.write_zarr(folder / "peer.zarr", spectrograms, window)
    starts = np.cumsum([0, *map(len, spectrograms)])
    rows = [starts[i] + at for i, at in picks]
    yield "zarr", lambda: WINDOWS / timed(lambda: [array[row : row + window] for row in rows])

    peers.write_webdataset(folder / "peer.tar", spectrograms)

    def stream() -> float:
        """A window of each sample of a shuffled stream, which is how a tar gives random access."""
        samples = webdataset.WebDataset(str(folder / "peer.tar"), shardshuffle=False, empty_check=False)
        samples = samples.shuffle(100, seed=0).decode()
        count = 0

        def work() -> None:
            nonlocal count
            for sample in samples:
                frames = sample["logmel.npy"]
                at = int(rng.integers(len(frames) - window))
                frames[at : at + window].copy()
                count += 1

        return count / seconds if (seconds := timed(work)) else 0.0

    yield "webdataset", stream

    files = peers.write_wavs(folder / "wavs", wavs)
    samples = window * params.hop_samples

    def on_the_fly() -> float:
        torch.set_num_threads(1)

        def one(index: int, at: int) -> object:
            sound, _ = soundfile.read(files[index][0], samples, at * params.hop_samples, dtype="float32")
            return torchaudio(sound)

        return WINDOWS / timed(lambda: [one(i, at) for i, at in picks])

    yield "WAV + mel on the fly", on_the_fly


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
