"""The usual ways, as tutorials and repositories have them, with the same parameters as ours."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.config import FeatureParams

Frames = NDArray[np.float32]
Cut = Callable[[Frames, int, np.random.Generator], Iterator[Frames]]


def librosa_logmel(samples: NDArray[np.float32], params: FeatureParams) -> Frames:
    """librosa's whole-file call; shape (frames, mels), decibels."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=samples, sr=params.sample_rate_hz, n_fft=params.fft_samples, hop_length=params.hop_samples,
        n_mels=params.mels, fmin=params.low_hz, fmax=params.high_hz, htk=True, norm=None, pad_mode="reflect",
    )  # fmt: skip
    return np.asarray(librosa.power_to_db(power, top_db=None)).T


class TorchaudioLogmel:
    """torchaudio's transforms, made once and called on whole files."""

    def __init__(self, params: FeatureParams) -> None:
        import torchaudio

        self._mel = torchaudio.transforms.MelSpectrogram(
            params.sample_rate_hz, params.fft_samples, hop_length=params.hop_samples, n_mels=params.mels,
            f_min=params.low_hz, f_max=params.high_hz,
        )  # fmt: skip
        self._decibels = torchaudio.transforms.AmplitudeToDB("power")

    def __call__(self, samples: NDArray[np.float32]) -> Frames:
        import torch

        return np.asarray(self._decibels(self._mel(torch.from_numpy(samples))).numpy()).T


def usual_script(archive: Path, folder: Path, params: FeatureParams) -> None:
    """Unzip, load with librosa, log-mel, one gzip HDF5 of float32 with a dataset for each file."""
    import librosa

    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    with h5py.File(folder / "features.h5", "w") as file:
        for wav in sorted(folder.rglob("*.wav")):
            samples, _ = librosa.load(wav, sr=params.sample_rate_hz, mono=True)
            file.create_dataset(wav.stem, data=librosa_logmel(samples, params), compression="gzip")


def write_gzip_hdf5(path: Path, spectrograms: list[Frames]) -> None:
    """One gzip HDF5 of float32 with a dataset for each file."""
    with h5py.File(path, "w") as file:
        for index, frames in enumerate(spectrograms):
            file.create_dataset(str(index), data=frames, compression="gzip")


def write_zarr(path: Path, spectrograms: list[Frames], window_frames: int) -> Any:
    """One zarr array of all frames, chunks of a window, its default compressor; returned open."""
    import zarr

    frames = np.concatenate(spectrograms)
    array = zarr.create_array(
        store=path, shape=frames.shape, chunks=(window_frames, frames.shape[1]), dtype=frames.dtype
    )
    array[:] = frames
    return zarr.open_array(path, mode="r")


def write_webdataset(path: Path, spectrograms: list[Frames]) -> None:
    """A tar with one .npy for each file."""
    with tarfile.open(path, "w") as tar:
        for index, frames in enumerate(spectrograms):
            content = io.BytesIO()
            np.save(content, frames)
            info = tarfile.TarInfo(f"{index:06d}.logmel.npy")
            info.size = len(content.getvalue())
            content.seek(0)
            tar.addfile(info, content)


def one_window(frames: Frames, count: int, rng: np.random.Generator) -> Iterator[Frames]:
    """Yield a window of this many frames at a random place."""
    at = int(rng.integers(len(frames) - count))
    yield frames[at : at + count].copy()


def every_window(frames: Frames, count: int, rng: np.random.Generator) -> Iterator[Frames]:
    """Yield one window after the other, from a random place in the first on."""
    for at in range(int(rng.integers(count)), len(frames) - count + 1, count):
        yield frames[at : at + count].copy()


def stream_webdataset(path: Path, count: int, windows_of: Cut) -> Iterator[Frames]:
    """Yield windows of the samples of a tar, shuffled before and after they are cut."""
    import webdataset

    rng = np.random.default_rng(0)
    samples = webdataset.WebDataset(str(path), shardshuffle=False).shuffle(20, seed=0).decode().to_tuple("logmel.npy")
    windows = samples.compose(lambda found: (one for (frames,) in found for one in windows_of(frames, count, rng)))
    yield from windows.shuffle(100, seed=0)


class WavWindows:
    """Reads the samples of a window and makes its spectrogram."""

    def __init__(self, files: list[Path], params: FeatureParams, window_frames: int) -> None:
        import torch

        torch.set_num_threads(1)
        self._files = files
        self._hop_samples = params.hop_samples
        self._samples = window_frames * params.hop_samples
        self._logmel = TorchaudioLogmel(params)

    def __call__(self, index: int, first_frame: int) -> Frames:
        start = first_frame * self._hop_samples
        sound, _ = soundfile.read(self._files[index], self._samples, start, dtype="float32")
        return self._logmel(sound)


def write_wavs(folder: Path, sounds: list[NDArray[np.float32]], params: FeatureParams) -> list[Path]:
    """The recordings as files of 16 bits."""
    folder.mkdir()
    files = [folder / f"{index}.wav" for index in range(len(sounds))]
    for path, sound in zip(files, sounds, strict=True):
        soundfile.write(path, sound, params.sample_rate_hz, subtype="PCM_16")
    return files
