"""The stage `curate`: the best samples that differ from each other, as files for a sampler.

Every sample has a score (`backbeat.library.quality`) and a verdict with its reason (`backbeat.library.choice`). The
chosen ones are made (`backbeat.library.production`) as entries of the staging store, under the digest of the sound and
of what the device wants, and linked at `data/library/production/<class>/<bank>/<name>.wav`, with a manifest that leads
back to the originals. So a rule that changes makes only the files that were not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from backbeat.errors import LibraryError
from backbeat.library.choice import Candidate, Verdict, choose
from backbeat.library.notes import Note, load_notes, match_notes
from backbeat.library.produce import Chosen, produce
from backbeat.library.production import MAX_CHANNELS
from backbeat.library.quality import check_rules, points_of, values_of
from backbeat.library.settings import CurateSettings, QualityRule, load_settings
from backbeat.library.tables import CURATION, read_table, write_table

# What the user's word is: a rating from here on, or one of these tags.
FORCING_RATING = 5
KEEP, REJECT = "keep", "reject"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ClassCount:
    """What became of the samples of a class; only those count that could be described and are not duplicates.

    Args:
        sound_class: its name; `loop` for all loops.
        candidates: how many there are.
        chosen: of them.
        below_threshold: of them.
        too_similar: of them.
        over_quota: of them.
        rejected: of them, by the user or because the device does not take them.
        mean_score: of all candidates.
    """

    sound_class: str
    candidates: int
    chosen: int
    below_threshold: int
    too_similar: int
    over_quota: int
    rejected: int
    mean_score: float


@dataclass(frozen=True)
class Curated:
    """What is in production, by class, and how many files this run has made."""

    classes: tuple[ClassCount, ...]
    chosen: int
    made: int
    size_bytes: int


@dataclass(frozen=True)
class _Sample:
    """All that is known of a sample when it is judged."""

    row: Row
    sound: Row
    sound_class: str
    points: Mapping[str, float]
    note: Note | None

    @property
    def sound_sha256(self) -> str | None:
        digest: str | None = self.row["audio_sha256"]
        return digest

    @property
    def undescribed(self) -> str | None:
        """Why nothing is known of its sound; None if something is."""
        error: str | None = self.sound.get("error") if self.sound else "the table descriptors does not have it"
        return error

    @property
    def tags(self) -> set[str]:
        return {tag.casefold() for tag in self.note.tags} if self.note else set()

    @property
    def wanted(self) -> bool:
        """Whether the user wants it, whatever its score."""
        return KEEP in self.tags or (self.note is not None and (self.note.rating or 0) >= FORCING_RATING)

    @property
    def score(self) -> float:
        return round(sum(self.points.values()), 2)


def curate(project: Path, *, workers: int | None = None) -> Curated:
    """Score and choose samples, make the files of production, write the manifest and the table.

    Args:
        project: the root of the repository.
        workers: processes; default: one for each processor.

    Raises:
        ConfigError: if `configs/library.yaml` or the notes are not valid.
        LibraryError: if a table is missing.
        StorageError: if the disk is full or read-only.
    """
    settings = load_settings(project).curate
    check_rules(settings.rules)
    samples = _samples(project, settings)
    verdicts = _verdicts(project, samples, settings)
    chosen = [
        Chosen(one.row, one.sound, one.sound_class, one.score)
        for name, one in samples.items()
        if verdicts[name].state == "chosen"
    ]
    produced = produce(project, chosen, settings, workers=workers)
    verdicts |= {name: Verdict("unreadable", fault) for name, fault in produced.faults.items()}
    schema = pa.schema([*CURATION, *((rule.name, pa.float64()) for rule in settings.rules)])
    table = (
        {
            "sample": name,
            "audio_sha256": one.row["audio_sha256"],
            "curated_class": one.sound_class,
            "score": one.score if one.points else None,
            "chosen": name in produced.paths,
            "state": verdicts[name].state,
            "reason": verdicts[name].reason,
            "production_path": produced.paths.get(name),
            **one.points,
        }
        for name, one in samples.items()
    )
    write_table(project, "curation", schema, table)
    return Curated(tuple(_counts(samples, verdicts)), len(produced.paths), produced.made, produced.size_bytes)


def _samples(project: Path, settings: CurateSettings) -> dict[str, _Sample]:
    rows = {row["sample"]: row for row in read_table(project, "scan").to_pylist()}
    sounds = {row["audio_sha256"]: row for row in read_table(project, "descriptors").to_pylist()}
    notes = load_notes(project)
    noted = match_notes(notes, {name: row["audio_sha256"] for name, row in rows.items()}).keys
    found = {}
    for name, row in rows.items():
        note = notes[noted[name]] if name in noted else None
        sound = sounds.get(row["audio_sha256"], {})
        is_loop = sound.get("kind") == "loop"
        its_class = (note and note.sound_class) or ("loop" if is_loop else sound.get("sound_class") or "other")
        found[name] = one = _Sample(row, sound, its_class, {}, note)
        # What is not known is no fault by the rules, so that nothing at all would have a good score.
        if row["error"] is None and one.undescribed is None:
            points = points_of(settings.rules, values_of(row, sound, its_class, settings))
            found[name] = replace(one, points=points)
    return found


def _verdicts(project: Path, samples: Mapping[str, _Sample], settings: CurateSettings) -> dict[str, Verdict]:
    duplicates = read_table(project, "duplicates", ["sample", "keeper"]).to_pylist()
    keepers = {row["sample"]: row["keeper"] for row in duplicates}
    vectors = {row["audio_sha256"]: row["embedding"] for row in read_table(project, "embeddings").to_pylist()}
    # The user's word is about the sound, whichever of its copies it was said of; the first of those that are wanted
    # stands for all of them.
    rejected = {one.sound_sha256 for one in samples.values() if REJECT in one.tags}
    wanted: dict[str | None, str] = {}
    for name, one in samples.items():
        if one.wanted:
            wanted.setdefault(one.sound_sha256, name)
    verdicts: dict[str, Verdict] = {}
    candidates = []
    for name, one in samples.items():
        forced = wanted.get(one.sound_sha256) == name
        keeper = wanted.get(one.sound_sha256, keepers.get(name, name))
        verdict = _out(one, settings, keeper=keeper, forced=forced, rejected=one.sound_sha256 in rejected)
        if verdict is None:
            vector = vectors.get(one.sound_sha256)
            candidates.append(Candidate(name, one.sound_class, one.score, vector, forced))
        else:
            verdicts[name] = verdict
    return verdicts | choose(candidates, settings)


def _out(one: _Sample, settings: CurateSettings, *, keeper: str, forced: bool, rejected: bool) -> Verdict | None:
    """Return why a sample is no candidate; None if it is one.

    Args:
        one: the sample.
        settings: with the device.
        keeper: the sample that is kept for it, which may be itself.
        forced: whether the user wants it.
        rejected: whether the user does not want its sound.
    """
    device = settings.devices[settings.device]
    if one.row["error"] is not None:
        return Verdict("unreadable", one.row["error"])
    if one.row["silent"]:
        return Verdict("silent", "there is nothing in it")
    if rejected:
        return Verdict("rejected", "by the user")
    if one.row["channels"] > MAX_CHANNELS:
        return Verdict("not for the device", f"it has {one.row['channels']} channels")
    if device.too_long == "leave-out" and one.row["duration_s"] > device.longest_s:
        return Verdict("not for the device", f"it is longer than {device.longest_s:g} s")
    if keeper != one.row["sample"]:
        return Verdict("duplicate", f"of {keeper}")
    if one.undescribed is not None and not forced:
        return Verdict("not described", one.undescribed)
    return None


def _counts(samples: Mapping[str, _Sample], verdicts: Mapping[str, Verdict]) -> Iterator[ClassCount]:
    classes: dict[str, list[str]] = {}
    for name, one in samples.items():
        if verdicts[name].state not in {"unreadable", "silent", "duplicate", "not described"}:
            classes.setdefault(one.sound_class, []).append(name)
    for sound_class, names in sorted(classes.items()):
        states = [verdicts[name].state for name in names]
        yield ClassCount(
            sound_class,
            candidates=len(names),
            chosen=states.count("chosen"),
            below_threshold=states.count("below threshold"),
            too_similar=states.count("too similar"),
            over_quota=states.count("over quota"),
            rejected=states.count("rejected") + states.count("not for the device"),
            mean_score=sum(samples[name].score for name in names) / len(names),
        )


@dataclass(frozen=True)
class Explained:
    """What one rule says of one sample: the value, and how many points it gives of how many."""

    rule: QualityRule
    value: float | None
    points: float


def explain(project: Path, sample: str) -> tuple[list[Explained], Row]:
    """Return what each rule says of a sample, as the rules are now, and its row of the table curation.

    Raises:
        LibraryError: if there is no such sample, it could not be read or described, or a table is missing.
    """
    settings = load_settings(project).curate
    check_rules(settings.rules)
    row = next((row for row in read_table(project, "curation").to_pylist() if row["sample"] == sample), None)
    if row is None or row["score"] is None:
        raise LibraryError(
            f"{sample} has no score",
            expected="the name of a sample that could be described, as in `backbeat library find`",
            got="no such sample" if row is None else str(row["reason"]),
        )
    one = _samples(project, settings)[sample]
    values = values_of(one.row, one.sound, one.sound_class, settings)
    return [Explained(rule, values.get(rule.column), one.points[rule.name]) for rule in settings.rules], row
