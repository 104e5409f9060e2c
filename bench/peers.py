"""The usual ways, as tutorials and repositories have them, with the same parameters as ours."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.config import FeatureParams

Frames = NDArray[np.float32]


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


def write_wavs(folder: Path, wavs: list[bytes]) -> list[tuple[Path, int]]:
    """The recordings as files; returns (path, samples) of each."""
    folder.mkdir()
    listed = []
    for index, wav in enumerate(wavs):
        path = folder / f"{index}.wav"
        path.write_bytes(wav)
        listed.append((path, soundfile.info(path).frames))
    return listed
