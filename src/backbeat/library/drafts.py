"""A pack that was found as the draft of a dataset record: `data/library/drafts/<name>.yaml`.

It is a valid record, and registers nothing where it is: nobody downloads what nobody has looked at. What the
announcement says of a license is a note; the license of the draft is `unknown`.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backbeat.config import load_yaml, validated
from backbeat.datasets.listing import Listed
from backbeat.datasets.new import Description, draft
from backbeat.datasets.record_text import record_text
from backbeat.datasets.registry import RECORDS_FOLDER, Record
from backbeat.errors import ConfigError
from backbeat.library.packs import Pack
from backbeat.library.settings import LIBRARY_FOLDER
from backbeat.storage.staging import new_file

DRAFTS_FOLDER = f"{LIBRARY_FOLDER}/drafts"

MOST_NAME_LETTERS = 48


def save_draft(project: Path, pack: Pack) -> Path:
    """Write the draft of a pack and return its file.

    Raises:
        ConfigError: if the announcement links nothing, or makes no valid record.
        StorageError: if the disk is full or read-only.
    """
    path = project / DRAFTS_FOLDER / f"{_free_name(project, pack.entry.title)}.yaml"
    record = _record(path.stem, pack)
    with new_file(path) as part:
        part.write_text(record_text(record), encoding="utf-8")
        assert validated(Record, load_yaml(part), str(path)) == record
    return path


def _record(name: str, pack: Pack) -> Record:
    entry = pack.entry
    if pack.file_url is not None:
        last = unquote(urlsplit(pack.file_url).path).rpartition("/")[2]
        found = Listed(re.sub(r"[^\w .()+-]", "_", last).strip(" ."), pack.file_url, pack.file_bytes)
    elif entry.link is not None:
        found = Listed("pack.zip", f"manual://{entry.link.partition('://')[2]}")
    else:
        raise ConfigError(
            f"{entry.title} has no link", expected="an address", got="none", next_step="look at the feed itself"
        )
    hints = ", ".join(pack.license_hints)
    about = Description(
        title=entry.title,
        license_id="unknown",
        license_note=f"the announcement mentions: {hints}; not checked" if hints else "none is mentioned",
        purpose="samples",
        homepage=entry.link,
        notes=" ".join(filter(None, [f"Found in the feed {pack.feed}", entry.published])),
    )
    record = draft(name, about, [found])
    if record.size_bytes is None and pack.said_bytes:
        record = record.model_copy(update={"approximate_size": pack.said_bytes})
    return record


def _free_name(project: Path, title: str) -> str:
    letters = unicodedata.normalize("NFKD", title.lower()).encode("ascii", errors="ignore").decode()
    stem = re.sub(r"[^a-z0-9]+", "_", letters)[:MOST_NAME_LETTERS].strip("_") or "pack"
    folders = (project / RECORDS_FOLDER, project / DRAFTS_FOLDER)
    name, number = stem, 1
    while any((folder / f"{name}.yaml").exists() for folder in folders):
        number += 1
        name = f"{stem}_{number}"
    return name
