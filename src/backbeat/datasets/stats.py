"""What a dataset that is here holds: how many files of which kind, how long, at which rates, of which classes.

One pass over the items in the order of their archives, in memory that does not grow with the dataset but for eight
bytes per recording (its length). Of a plain WAV only the header is read; what is compressed is read whole. What cannot
be read is counted and named, and the rest goes on.

Classes are what the layout or the names know: the columns of E-GMD's table; NSynth's instrument families; else the
folders of the first level that has between two and sixty of them.
"""

from __future__ import annotations

import contextlib
import statistics
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from backbeat.datasets.class_counts import ClassCounts
from backbeat.datasets.headers import KINDS, ArrayShape, array_shape, audio_info, kind_of, midi_length_s
from backbeat.datasets.packed.containers import dataset_items
from backbeat.datasets.packed.items import Item
from backbeat.datasets.registry import load_record
from backbeat.errors import BackbeatError

SHOWN_UNREADABLE = 20
HISTOGRAM_BINS = 24

# Where one recording is so many times longer than most, bins of one width would show nothing but that: they grow.
SKEWED = 15
SHORTEST_S = 0.01


@dataclass(frozen=True)
class Durations:
    """How long recordings, or pieces of MIDI, are.

    Args:
        count: how many there are.
        total_s: all together, in seconds.
        min_s: the shortest.
        median_s: half are shorter.
        mean_s: the average.
        max_s: the longest.
        edges_s: the borders of the bins, one more than bins: from 0 on, or, of very uneven lengths, in equal ratios.
        bins: how many are in each; the last one includes its upper border.
    """

    count: int
    total_s: float
    min_s: float
    median_s: float
    mean_s: float
    max_s: float
    edges_s: tuple[float, ...]
    bins: tuple[int, ...]


@dataclass(frozen=True)
class Amount:
    """A number of files and their bytes."""

    files: int
    size_bytes: int


@dataclass(frozen=True)
class Stats:
    """What a dataset holds.

    Args:
        dataset: its name.
        files: how many files there are, unpacked.
        size_bytes: their bytes.
        kinds: the same by kind: audio, midi, array, table, text, other.
        hours: hours of audio.
        audio: lengths of the recordings; None without any.
        midi: lengths of the MIDI files; None without any.
        sample_rates_hz: recordings by sample rate.
        sample_types: recordings by sample type, as libsndfile calls it (`PCM_16`).
        channels: recordings by number of channels.
        classes: by what is told apart (`split`, `folder`), the number of examples of each class.
        arrays: numpy files.
        unreadable: how many recordings, MIDI files and arrays could not be read.
        unreadable_names: the first of them, with the reason.
    """

    dataset: str
    files: int
    size_bytes: int
    kinds: dict[str, Amount]
    hours: float
    audio: Durations | None
    midi: Durations | None
    sample_rates_hz: dict[int, int]
    sample_types: dict[str, int]
    channels: dict[int, int]
    classes: dict[str, dict[str, int]]
    arrays: tuple[ArrayShape, ...]
    unreadable: int
    unreadable_names: tuple[str, ...]


def stats(project: Path, name: str) -> Stats:
    """Count what a dataset that is here holds.

    Raises:
        ConfigError: if there is no such record or it is not valid.
        DownloadError: if a file of the dataset is not here.
        ArchiveError: if an archive is damaged so that its next members cannot be found.
    """
    record = load_record(project, name)
    with contextlib.closing(dataset_items(project, name, label=f"{name}: counting")) as items:
        return stats_of(name, record.layout, items)


def stats_of(name: str, layout: str, items: Iterable[Item]) -> Stats:
    """Count what these items hold; see `stats`."""
    tally = _Tally(ClassCounts(layout))
    for item in items:
        tally.add(item)
    return tally.result(name)


@dataclass
class _Tally:
    classes: ClassCounts
    files: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    rates: Counter[int] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    lengths_s: dict[str, array[float]] = field(default_factory=lambda: {"audio": array("d"), "midi": array("d")})
    arrays: list[ArrayShape] = field(default_factory=list)
    unreadable: int = 0
    unreadable_names: list[str] = field(default_factory=list)

    def add(self, item: Item) -> None:
        kind = kind_of(item.name)
        self.files[kind] += 1
        self.sizes[kind] += item.size_bytes
        try:
            self._look_into(kind, item)
        except BackbeatError as error:
            self.unreadable += 1
            if self.unreadable <= SHOWN_UNREADABLE:
                self.unreadable_names.append(f"{error.what}: {error.got}")

    def _look_into(self, kind: str, item: Item) -> None:
        if kind == "audio":
            info = audio_info(item)
            self.rates[info.sample_rate_hz] += 1
            self.types[info.subtype] += 1
            self.channels[info.channels] += 1
            self.lengths_s["audio"].append(info.duration_s)
        elif kind == "midi":
            self.lengths_s["midi"].append(midi_length_s(item))
        elif kind == "array" and len(self.arrays) < SHOWN_UNREADABLE:
            self.arrays.append(array_shape(item))
        self.classes.add(kind, item)

    def result(self, name: str) -> Stats:
        return Stats(
            dataset=name,
            files=self.files.total(),
            size_bytes=self.sizes.total(),
            kinds={kind: Amount(self.files[kind], self.sizes[kind]) for kind in (*KINDS, "other") if self.files[kind]},
            hours=sum(self.lengths_s["audio"]) / 3600,
            audio=_durations(self.lengths_s["audio"]),
            midi=_durations(self.lengths_s["midi"]),
            sample_rates_hz=dict(sorted(self.rates.items())),
            sample_types=dict(sorted(self.types.items())),
            channels=dict(sorted(self.channels.items())),
            classes=self.classes.result(),
            arrays=tuple(self.arrays),
            unreadable=self.unreadable,
            unreadable_names=tuple(self.unreadable_names),
        )


def _durations(lengths_s: array[float]) -> Durations | None:
    import numpy as np

    if not lengths_s:
        return None
    longest_s = max(lengths_s)
    median_s = statistics.median(lengths_s)
    edges_s = np.linspace(0, longest_s or 1.0, HISTOGRAM_BINS + 1)
    if longest_s > SKEWED * median_s:
        edges_s = np.geomspace(max(min(lengths_s), SHORTEST_S), longest_s, HISTOGRAM_BINS + 1)
    bins, _ = np.histogram(np.clip(lengths_s, edges_s[0], edges_s[-1]), bins=edges_s)
    return Durations(
        count=len(lengths_s),
        total_s=sum(lengths_s),
        min_s=min(lengths_s),
        median_s=median_s,
        mean_s=statistics.fmean(lengths_s),
        max_s=longest_s,
        edges_s=tuple(round(float(edge), 6) for edge in edges_s),
        bins=tuple(int(count) for count in bins),
    )
