"""How much there is: counts and hours, by source and tier, and how they have grown.

The stage `catalog` writes the figures to `reports/library.json`, which Git tracks: its history is how the library has
grown.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from backbeat.library.spend import read_spend
from backbeat.storage.staging import new_file

REPORT_FILE = "reports/library.json"

# Of a long history, the last so many changes.
_MOST_COMMITS = 500


@dataclass(frozen=True)
class Part:
    """What there is of one source in one tier."""

    source: str
    tier: str
    samples: int
    hours: float
    size_bytes: int


@dataclass(frozen=True)
class Figures:
    """What there is in all.

    Args:
        samples: files of every source, and those that only the archive has.
        unreadable: files among them that are no sound.
        sounds: distinct ones.
        described: the share of readable samples whose sound is described.
        hours: of all samples.
        size_bytes: of all files, as they came.
        archived_bytes: of the FLAC files of what is archived.
        copies: samples that are the same sound as another, which is kept.
        near: samples that are nearly another.
        chosen: samples in production.
        mean_score: of the quality, 0 to 100; None where nothing has a score.
        rated: samples with a rating of the user.
        parts: by source and tier.
        classes: readable samples by class; what is silent, and loops that have none, as such.
    """

    samples: int
    unreadable: int
    sounds: int
    described: float
    hours: float
    size_bytes: int
    archived_bytes: int
    copies: int
    near: int
    chosen: int
    mean_score: float | None
    rated: int
    parts: tuple[Part, ...]
    classes: dict[str, int]


@dataclass(frozen=True)
class Grown:
    """The figures of a day, as committed last on it."""

    day: str
    samples: int
    hours: float


@dataclass(frozen=True)
class Stats:
    """The figures, and what is not in the tables.

    Args:
        now: what is in the catalog.
        catalog_bytes: the size of the database.
        growth: by day, the oldest first.
        spent_usd: by day: on words of a language model.
    """

    now: Figures
    catalog_bytes: int
    growth: tuple[Grown, ...]
    spent_usd: dict[str, Decimal]


def count(db: Database) -> Figures:
    """Return the figures of a catalog."""

    def one(sql: str) -> Any:
        return db.execute(sql).fetchone()[0]

    readable = one("SELECT count(*) FROM samples WHERE error IS NULL")
    described = one(
        "SELECT count(*) FROM samples JOIN sounds ON sounds.id = sound_id"
        " WHERE samples.error IS NULL AND sounds.error IS NULL"
    )
    parts = db.execute(
        "SELECT sources.name, tier, count(*), round(coalesce(sum(duration_s), 0) / 3600, 4), sum(size_bytes)"
        " FROM samples JOIN sources ON sources.id = source_id GROUP BY 1, 2 ORDER BY 1, 2 DESC"
    )
    classes = db.execute(
        "SELECT coalesce(class, CASE WHEN silent THEN 'silent' WHEN kind = 'loop' THEN 'loop' ELSE 'unknown' END),"
        " count(*) FROM library WHERE error IS NULL GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    score = one("SELECT avg(score) FROM production")
    return Figures(
        samples=one("SELECT count(*) FROM samples"),
        unreadable=one("SELECT count(*) FROM samples WHERE error IS NOT NULL"),
        sounds=one("SELECT count(DISTINCT sound_id) FROM samples"),
        described=round(described / readable, 4) if readable else 1.0,
        hours=one("SELECT round(coalesce(sum(duration_s), 0) / 3600, 4) FROM samples"),
        size_bytes=one("SELECT coalesce(sum(size_bytes), 0) FROM samples"),
        archived_bytes=one(
            "SELECT coalesce(sum(size), 0) FROM (SELECT max(flac_bytes) AS size FROM samples GROUP BY file_sha256)"
        ),
        copies=one("SELECT count(*) FROM duplicates WHERE tier NOT IN ('keeper', 'near')"),
        near=one("SELECT count(*) FROM duplicates WHERE tier = 'near'"),
        chosen=one("SELECT count(*) FROM production WHERE chosen"),
        mean_score=None if score is None else round(score, 2),
        rated=one("SELECT count(*) FROM notes WHERE rating IS NOT NULL"),
        parts=tuple(Part(*row) for row in parts.fetchall()),
        classes=dict(classes.fetchall()),
    )


def write_report(project: Path, figures: Figures) -> None:
    """Write the figures to `reports/library.json`.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    with new_file(project / REPORT_FILE) as part:
        part.write_text(json.dumps(asdict(figures), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_stats(project: Path, db: Database, catalog: Path) -> Stats:
    """Return figures, growth and spend.

    Args:
        project: the root of the repository.
        db: the catalog.
        catalog: its file.

    Raises:
        LibraryError: if the record of what was spent is damaged.
    """
    spent: dict[str, Decimal] = {}
    for row in read_spend(project):
        spent[row.day.isoformat()] = spent.get(row.day.isoformat(), Decimal(0)) + row.usd
    return Stats(count(db), catalog.stat().st_size, _growth(project), spent)


def _growth(project: Path) -> tuple[Grown, ...]:
    """Return the figures that were committed; none where there is no history."""
    log = _git(project, "log", f"--max-count={_MOST_COMMITS}", "--format=%H %cs", "--", REPORT_FILE)
    commits = [line.split() for line in reversed((log or b"").decode().splitlines())]
    blobs = "".join(f"{commit}:{REPORT_FILE}\n" for commit, _ in commits).encode()
    contents = _blobs(_git(project, "cat-file", "--batch", given=blobs) or b"") if commits else []
    days: dict[str, Grown] = {}
    for (_, day), content in zip(commits, contents, strict=False):
        # A file of another version, or one with conflicts, is no figure.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            figures = json.loads(content or b"null")
            days[day] = Grown(day, int(figures["samples"]), float(figures["hours"]))
    return tuple(days.values())


def _blobs(batch: bytes) -> list[bytes | None]:
    """Return what `git cat-file --batch` says of each object; None for one that is not there."""
    found: list[bytes | None] = []
    while batch:
        head, _, batch = batch.partition(b"\n")
        if head.endswith(b" missing"):
            found.append(None)
            continue
        size = int(head.split()[-1])
        found.append(batch[:size])
        batch = batch[size + 1 :]
    return found


def _git(project: Path, *words: str, given: bytes | None = None) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(project), *words], input=given, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
