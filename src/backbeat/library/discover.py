"""New packs in feeds: listed once, with hints at license and size; drafts are written where that is asked for.

What was seen is noted in the staging store, `library/feeds.json`: without the file, everything is new again.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backbeat.errors import ConfigError, LibraryError
from backbeat.executor import run_threads
from backbeat.library.drafts import save_draft
from backbeat.library.feeds import Entry, fetch_feed
from backbeat.library.packs import Pack, ask_size, pack_of
from backbeat.library.settings import LIBRARY_FILE, DiscoverSettings, Feed, load_settings
from backbeat.storage.staging import new_file, open_staging

GB = 1_000_000_000

# Servers that are asked for a size at the same time.
ASKED_AT_ONCE = 4

# Of one feed; one that is older has left every feed.
MOST_REMEMBERED = 5_000


@dataclass(frozen=True)
class Found:
    """A pack, and the draft that was written of it, or why none was."""

    pack: Pack
    draft: str | None = None
    no_draft: str | None = None


@dataclass(frozen=True)
class Discovered:
    """What is new, and the feeds that could not be read, with the reason."""

    found: tuple[Found, ...]
    failed: dict[str, str]


@dataclass
class _Known:
    """What is known of a feed: how to ask for it, what it last said, and what was listed and saved of it."""

    validators: dict[str, str] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)


def discover(project: Path, *, feed: str | None = None, save: bool = False) -> Discovered:
    """Read the feeds and return what is new in them; what a feed lists twice is new once.

    Args:
        project: the root of the repository.
        feed: one feed only.
        save: whether to write drafts, of everything in the feeds of which none was written yet and that names a size
            or a license or links an archive file.

    Raises:
        ConfigError: if there is no such feed.
        LibraryError: if no feed could be read.
        StorageError: if the disk is full or read-only.
    """
    settings = load_settings(project).discover
    chosen = [one for one in settings.feeds if feed in {None, one.name}]
    if not chosen:
        raise ConfigError(
            f"there is no feed {feed}",
            expected=f"one of {', '.join(one.name for one in settings.feeds)}",
            next_step=f"add it to discover.feeds in {LIBRARY_FILE}",
        )
    memory = _memory(project)
    found: list[Found] = []
    failed: dict[str, str] = {}
    for one in chosen:
        known = memory.setdefault(one.url, _Known())
        try:
            fresh = _fresh(one, known, settings, save)
        except LibraryError as error:
            failed[one.name] = error.got or error.what
            continue
        found += [_drafted(project, pack, settings) if save else Found(pack) for pack in fresh]
        ids = [pack.entry.id for pack in fresh]
        known.listed = [*known.listed, *ids][-MOST_REMEMBERED:]
        known.saved = [*known.saved, *(ids if save else [])][-MOST_REMEMBERED:]
        _remember(project, memory)
    return Discovered(tuple(found), failed)


def _fresh(feed: Feed, known: _Known, settings: DiscoverSettings, save: bool) -> list[Pack]:
    answer = fetch_feed(feed, known.validators, settings)
    if answer.entries is not None:
        known.entries = list(answer.entries)
    known.validators = answer.validators
    seen = set(known.saved if save else known.listed)
    packs = {entry.id: pack_of(feed.name, entry) for entry in known.entries if entry.id not in seen}
    asked = [pack for pack in packs.values() if pack.file_url is not None]
    for pack, size in run_threads(
        lambda pack: ask_size(str(pack.file_url), settings.timeout_s), asked, threads=ASKED_AT_ONCE
    ):
        if isinstance(size, int):
            packs[pack.entry.id] = replace(pack, file_bytes=size)
    return list(packs.values())


def _drafted(project: Path, pack: Pack, settings: DiscoverSettings) -> Found:
    if pack.size_bytes is not None and pack.size_bytes > settings.largest_gb * GB:
        return Found(pack, no_draft=f"larger than {settings.largest_gb:g} GB")
    if pack.size_bytes is None and not pack.license_hints and pack.file_url is None:
        return Found(pack, no_draft="it names no size and no license, and links no archive file")
    try:
        return Found(pack, draft=save_draft(project, pack).relative_to(project).as_posix())
    except ConfigError as error:
        return Found(pack, no_draft=(error.got or error.what).splitlines()[0])


def _path(project: Path) -> Path:
    return open_staging(project).root / "library" / "feeds.json"


def _memory(project: Path) -> dict[str, _Known]:
    try:
        values: Any = json.loads(_path(project).read_bytes())
        return {
            url: _Known(
                known["validators"],
                [Entry(**{**entry, "links": tuple(entry["links"])}) for entry in known["entries"]],
                known["listed"],
                known["saved"],
            )
            for url, known in values.items()
        }
    # It is a note of what was seen: one that cannot be read is none.
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _remember(project: Path, memory: dict[str, _Known]) -> None:
    with new_file(_path(project)) as part:
        part.write_text(json.dumps({url: dataclasses.asdict(known) for url, known in memory.items()}))
