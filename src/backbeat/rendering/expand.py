"""Expanding performances by kits: an archive of E-GMD's layout, and its record. `backbeat expand`.

    <name>/drummer1/session1/1_funk_80_beat_4-4_<kit>.midi     what was played
    <name>/drummer1/session1/1_funk_80_beat_4-4_<kit>.wav      how it sounded on this kit, in this room
    <name>/<name>.csv                                          E-GMD's table
    <name>/LICENSE                                             where performances and sounds are from

One task renders all recordings of one kit and puts them into the staging store, under the digest of everything that
they depend on: a run that was killed goes on with the kits that are missing. Then the archive is written in the order
of the kits. Same recipe, same sounds, same versions of the libraries: same bytes, for any number of workers.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from backbeat.datasets.egmdtable import COLUMNS, SPLITS, write_table
from backbeat.datasets.listing import file_url
from backbeat.datasets.new import Description, new
from backbeat.datasets.registry import RECORDS_FOLDER
from backbeat.drums.classes import load_drums
from backbeat.drums.midi import Onsets, read_onsets, write_onsets
from backbeat.drums.pack import OWN_FOLDER
from backbeat.drums.packrecord import record_of, updated_record
from backbeat.executor import run_tasks
from backbeat.progress import progress
from backbeat.provenance import digest_of, file_digest
from backbeat.rendering.backing import make_backing
from backbeat.rendering.bank import SAMPLE_RATE_HZ, Bank, OneShot
from backbeat.rendering.kits import draw_kit, drawn
from backbeat.rendering.performances import Performance, excerpt, read_performances
from backbeat.rendering.playing import TAIL_S, play
from backbeat.rendering.recipe import Recipe, load_recipe
from backbeat.rendering.sources import Source, load_bank, located, source_digest
from backbeat.rendering.studio import Backing, draw_backing, produce
from backbeat.storage.staging import new_file, open_staging, require_space

# A kit is made of the sources that are drawn for it: so many are in memory at a time.
SOURCES_OF_A_KIT = 5

_ROLES = ("train", "validation", "test")
_PLAN, _KIT, _RECORDING, _SONG = range(4)  # what random numbers are for
_MADE_AT = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can say
_WAV_BYTES_PER_S = 2 * SAMPLE_RATE_HZ


@dataclass(frozen=True)
class KitTask:
    """One kit and what it plays; a task of the executor.

    Attributes:
        recipe: the draws.
        role: of its sources.
        index: of the kit within its role, from 0.
        number: of the kit in the archive.
        sources: what it may be made of; it begins with the first.
        banks: where their sounds are.
        songs: where the backings are; none where no band plays.
        played: performances and how many seconds of each at most.
        instrument_of: pads of the kit.
        part: where its recordings go.
    """

    recipe: Recipe
    role: str
    index: int
    number: int
    sources: tuple[Source, ...]
    banks: tuple[Path | None, ...]
    songs: tuple[Path, ...]
    played: tuple[Performance, ...]
    instrument_of: dict[int, str]
    part: Path


@dataclass(frozen=True)
class Expanded:
    """What was rendered, or would be: kits, recordings and seconds of each split."""

    archive: Path
    record: Path
    kits: int
    reused: int
    recordings: dict[str, int]
    duration_s: dict[str, float]
    sources: tuple[Source, ...]


def expand(
    project: Path,
    recipe_file: Path,
    performances: Path,
    *,
    out: Path | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    dry_run: bool = False,
) -> Expanded:
    """Render performances on the kits of a recipe; write the archive and its record, or bring both up to date.

    Args:
        project: the root of the repository.
        recipe_file: `configs/kits/<name>.yaml`; the data set gets its name.
        performances: the Groove MIDI Dataset's archive.
        out: the archive; by default `data/own/<name>.zip`.
        workers: processes; default: one per processor.
        cluster: address of a Dask scheduler to use instead.
        dry_run: whether to say what would be made and make nothing.

    Raises:
        ConfigError: if the recipe, a source or the archive of performances cannot be used, or a name is taken.
        StorageError: if the disk is or would be full.
    """
    recipe = load_recipe(recipe_file)
    name = recipe_file.stem.replace("-", "_")
    archive = (out or project / OWN_FOLDER / f"{name}.zip").absolute()
    path = project / RECORDS_FOLDER / f"{name}.yaml"
    known = record_of(project, path, file_url(project, archive)) if path.exists() else None
    tasks = _plan(project, recipe, read_performances(performances), file_digest(performances))
    expanded = _summary(archive, path, tasks)
    if dry_run:
        return expanded
    needed_s = sum(expanded.duration_s.values())
    require_space(archive.parent, round(2 * needed_s * _WAV_BYTES_PER_S), archive.name)
    missing = [task for task in tasks if not task.part.exists()]
    _make_banks(missing, workers, cluster)
    _make_songs(recipe, missing, workers, cluster)
    with progress(f"rendering {name}", len(tasks), unit="kits") as advance:
        advance(len(tasks) - len(missing))
        for _ in run_tasks(render_kit, missing, workers=workers, cluster=cluster):
            advance(1)
    with new_file(archive) as part:
        _write_archive(part, name, tasks)
        if known is not None:
            updated = updated_record(path, known, part)
    if known is not None:
        with new_file(path) as record:
            record.write_bytes(updated)
    else:
        new(project, name, str(archive), _description(recipe, expanded.sources))
    for task in tasks:
        task.part.unlink(missing_ok=True)
    return replace(expanded, reused=len(tasks) - len(missing))


def render_kit(task: KitTask) -> None:
    """Render all recordings of one kit into its part: a zip of WAV, MIDI and a row of the table for each."""
    recipe = task.recipe
    banks = [
        load_bank(source, _number(recipe.seed, task.role, task.index))
        if path is None
        else _read_bank(path, source.name)
        for source, path in zip(task.sources, task.banks, strict=True)
    ]
    kit = draw_kit(task.number, banks, task.instrument_of, recipe.kit, _rng(recipe.seed, task.role, task.index, _KIT))
    with new_file(task.part) as part, zipfile.ZipFile(part, "w") as target:
        for position, performance in enumerate(task.played):
            rng = _rng(recipe.seed, task.role, task.index, _RECORDING, position)
            hits = excerpt(performance, recipe.longest_s, rng).onsets
            # What a kit does not have is not heard, and so not written either.
            hits = hits.where(np.array([kit.sounds(int(pitch)) for pitch in hits.pitch]))
            speed = drawn(recipe.recording.speed, rng)
            if not len(hits):
                continue
            midi, onsets = _written(hits, speed)
            samples = produce(play(kit, onsets, rng), _backing(task, position), recipe.recording, rng)
            stem = f"{performance.stem}_{task.number}"
            target.writestr(_member(f"{stem}.midi"), midi)
            target.writestr(_member(f"{stem}.wav"), _wav(samples))
            row = _row(performance, stem, len(samples) / SAMPLE_RATE_HZ, kit.name)
            target.writestr(_member(f"{stem}.csv"), write_table([row], COLUMNS))


def _backing(task: KitTask, position: int) -> Backing | None:
    """Draw whether a band plays along; from numbers of its own, so that the drums are the same without it."""
    recording = task.recipe.recording
    rng = _rng(task.recipe.seed, task.role, task.index, _SONG, position)
    if rng.random() >= recording.backing:
        return None
    song = np.load(task.songs[int(rng.integers(len(task.songs)))])
    return draw_backing(song, recording, rng)


def _plan(project: Path, recipe: Recipe, performances: list[Performance], archive_digest: str) -> list[KitTask]:
    staging = open_staging(project)
    code = digest_of(
        [
            soundfile.__libsndfile_version__,
            np.__version__,
            *map(file_digest, sorted(Path(__file__).parent.glob("*.py"))),
        ]
    )
    table = load_drums(project)
    digests = {source.name: source_digest(source) for source in recipe.sources}
    band = recipe.band if recipe.recording.backing else None
    band_digest = digest_of([code, band.model_dump(), file_digest(located(band.file, band.package))]) if band else ""
    songs = tuple(
        staging.entry("songs", digest_of([band_digest, recipe.seed, index]), ".npy")
        for index in range(band.songs if band else 0)
    )
    tasks: list[KitTask] = []
    for role in _ROLES:
        part = recipe.parts.get(role)
        for index in range(part.kits if part else 0):
            assert part is not None
            rng = _rng(recipe.seed, role, index, _PLAN)
            sources = _sources_of(recipe, role, rng)
            played = [
                one
                for split in SPLITS
                if split in part.minutes
                for one in _chosen(performances, split, 60 * part.minutes[split], recipe.longest_s, rng)
            ]
            number = len(tasks) + 1
            draws = [recipe.kit.model_dump(), recipe.recording.model_dump(), recipe.longest_s, recipe.seed]
            made_from = [
                code,
                band_digest,
                archive_digest,
                draws,
                role,
                index,
                number,
                [one.stem for one in played],
                [digests[source.name] for source in sources],
                table.model_dump()["pitches"],
            ]
            tasks.append(
                KitTask(
                    recipe=recipe,
                    role=role,
                    index=index,
                    number=number,
                    sources=sources,
                    banks=tuple(
                        None
                        if source.synthesizer is not None
                        else staging.entry("banks", digest_of([digests[source.name], code]), ".npz")
                        for source in sources
                    ),
                    songs=songs,
                    played=tuple(played),
                    instrument_of=dict(table.pitches),
                    part=staging.entry("rendered", digest_of(made_from), ".zip"),
                )
            )
    return tasks


def _sources_of(recipe: Recipe, role: str, rng: np.random.Generator) -> tuple[Source, ...]:
    """Draw what a kit may be made of: the first is what it begins with."""
    of_role = [source for source in recipe.sources if source.role == role]
    made = [source for source in of_role if source.synthesizer is not None]
    recorded = [source for source in of_role if source.synthesizer is None]
    begins_made = bool(made) and (not recorded or rng.random() < recipe.kit.synthesizer)
    first = [made[0]] if begins_made else [recorded[int(rng.choice(len(recorded), p=_shares(recorded)))]]
    others = [source for source in recorded if source is not first[0]]
    wanted = min(SOURCES_OF_A_KIT - 1, len(others))
    if not wanted:
        return tuple(first)
    chosen = rng.choice(len(others), size=wanted, replace=False, p=_shares(others))
    return (*first, *(others[index] for index in chosen))


def _shares(sources: Sequence[Source]) -> NDArray[np.float64]:
    weights = np.array([source.weight for source in sources])
    return np.asarray(weights / weights.sum())


def _chosen(
    performances: list[Performance], split: str, wanted_s: float, longest_s: float, rng: np.random.Generator
) -> list[Performance]:
    """Draw performances of a split until they are long enough together."""
    pool = [performance for performance in performances if performance.split == split]
    chosen: list[Performance] = []
    total_s = 0.0
    for index in rng.permutation(len(pool)):
        if total_s >= wanted_s:
            break
        chosen.append(pool[index])
        total_s += _length_s(pool[index], longest_s)
    return chosen


def _length_s(performance: Performance, longest_s: float) -> float:
    played = performance.onsets.onset_s
    return min(float(played[-1] - played[0]), longest_s) + TAIL_S


def _make_banks(tasks: Sequence[KitTask], workers: int | None, cluster: str | None) -> None:
    """Turn every recorded source that is needed into a bank, once; they are read from the staging store then."""
    wanted = {
        path: source
        for task in tasks
        for source, path in zip(task.sources, task.banks, strict=True)
        if path is not None and not path.exists()
    }
    with progress("reading sounds", len(wanted), unit="sources") as advance:
        for _ in run_tasks(
            _make_bank, sorted(wanted.items(), key=lambda one: one[1].name), workers=workers, cluster=cluster
        ):
            advance(1)


def _make_bank(task: tuple[Path, Source]) -> None:
    path, source = task
    bank = load_bank(source, 0)
    arrays = {
        f"{instrument}/{position:03d}/{shot.force!r}": shot.samples
        for instrument, shots in sorted(bank.shots.items())
        for position, shot in enumerate(shots)
    }
    with new_file(path) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _make_songs(recipe: Recipe, tasks: Sequence[KitTask], workers: int | None, cluster: str | None) -> None:
    if recipe.band is None or not tasks:
        return
    font = located(recipe.band.file, recipe.band.package)
    wanted = [(path, font, recipe.seed, index) for index, path in enumerate(tasks[0].songs) if not path.exists()]
    with progress("playing songs", len(wanted), unit="songs") as advance:
        for _ in run_tasks(_make_song, wanted, workers=workers, cluster=cluster):
            advance(1)


def _make_song(task: tuple[Path, Path, int, int]) -> None:
    path, font, seed, index = task
    song = make_backing(font, _rng(seed, _ROLES[0], index, _SONG, _SONG))
    with new_file(path) as part, part.open("wb") as stream:
        np.save(stream, song)


@lru_cache(maxsize=SOURCES_OF_A_KIT)
def _read_bank(path: Path, name: str) -> Bank:
    shots: dict[str, list[OneShot]] = {}
    with np.load(path) as arrays:
        for key in sorted(arrays.files):
            instrument, _, force = key.split("/")
            shots.setdefault(instrument, []).append(OneShot(arrays[key], float(force)))
    return Bank(name, {instrument: tuple(of) for instrument, of in shots.items()})


def _rng(seed: int, role: str, index: int, purpose: int, position: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, _ROLES.index(role), index, purpose, position])


def _number(seed: int, role: str, index: int) -> int:
    return int(_rng(seed, role, index, _KIT).integers(2**31))


def _written(onsets: Onsets, speed: float) -> tuple[bytes, Onsets]:
    """Return the hits of a tape that runs at this speed as a MIDI file, and as that file has them."""
    faster = Onsets((onsets.onset_s / speed).astype(np.float32), onsets.pitch, onsets.velocity)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "played.midi"
        write_onsets(faster, path)
        midi = path.read_bytes()
    return midi, read_onsets(midi)


def _wav(samples: NDArray[np.int16]) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, SAMPLE_RATE_HZ, subtype="PCM_16", format="WAV")
    return out.getvalue()


def _row(performance: Performance, stem: str, duration_s: float, kit_name: str) -> dict[str, str]:
    return {
        "drummer": performance.drummer,
        "session": performance.session,
        "id": performance.id,
        "style": performance.style,
        "bpm": f"{performance.tempo_bpm:g}",
        "beat_type": performance.beat_type,
        "time_signature": performance.meter,
        "duration": repr(duration_s),
        "split": performance.split,
        "midi_filename": f"{stem}.midi",
        "audio_filename": f"{stem}.wav",
        "kit_name": kit_name,
    }


def _write_archive(path: Path, name: str, tasks: Sequence[KitTask]) -> None:
    """Put the parts together; rows of the table are members of the parts."""
    tables: list[str] = []
    with zipfile.ZipFile(path, "w") as target, progress(f"writing {name}", len(tasks), unit="kits") as advance:
        for task in tasks:
            with zipfile.ZipFile(task.part) as part:
                for info in part.infolist():
                    if info.filename.endswith(".csv"):
                        tables.append(part.read(info).decode())
                        continue
                    member = _member(f"{name}/{info.filename}")
                    member.file_size = info.file_size
                    with part.open(info) as source, target.open(member, "w") as stream:
                        shutil.copyfileobj(source, stream, 2**20)
            advance(1)
        header, rows = tables[0].splitlines(keepends=True)[0], (table.splitlines(keepends=True)[1] for table in tables)
        target.writestr(_member(f"{name}/{name}.csv"), header + "".join(rows))
        target.writestr(_member(f"{name}/LICENSE"), "".join(license_lines(_used(tasks))))


def license_lines(sources: Sequence[Source]) -> Iterator[str]:
    """Yield where performances and sounds are from, a line each."""
    yield "Performances: Groove MIDI Dataset, Google LLC, CC-BY-4.0, https://magenta.tensorflow.org/datasets/groove\n"
    for source in sources:
        package = f", Debian package {source.package}" if source.package else ""
        yield f"Sounds: {source.name}, {source.license.holder}, {source.license.id}{package}\n"


def _used(tasks: Sequence[KitTask]) -> tuple[Source, ...]:
    return tuple(
        {source.name: source for task in tasks for source in task.sources}[name]
        for name in sorted({source.name for task in tasks for source in task.sources})
    )


def _summary(archive: Path, record: Path, tasks: Sequence[KitTask]) -> Expanded:
    recordings = dict.fromkeys(SPLITS, 0)
    duration_s = dict.fromkeys(SPLITS, 0.0)
    for task in tasks:
        for performance in task.played:
            recordings[performance.split] += 1
            duration_s[performance.split] += _length_s(performance, task.recipe.longest_s)
    return Expanded(archive, record, len(tasks), 0, recordings, duration_s, _used(tasks))


def _description(recipe: Recipe, sources: Sequence[Source]) -> Description:
    return Description(
        title=recipe.title,
        license_id="LicenseRef-kits",
        license_url=None,
        commercial=all(source.license.commercial for source in sources),
        redistribute=False,
        license_note="Performances are CC BY 4.0; every source of sounds has its own license, listed in the archive.",
        purpose="drum transcription",
    )


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, date_time=_MADE_AT)
    member.create_system, member.external_attr = 3, 0o100644 << 16
    return member
