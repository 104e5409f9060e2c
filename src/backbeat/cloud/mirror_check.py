"""Whether the mirror is what its manifests say, and what the registry wants.

A listing shows names and sizes, and of files that were sent in one piece the MD5. Files that were sent in parts have
no such thing: some of them are read, others every time; or all of which nothing has shown yet that they are whole
(`every`), which is remembered by ETag and size; or all of them (`full`).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from backbeat.cloud.bucket_objects import at_once
from backbeat.cloud.manifest import (
    FOLDER,
    Manifest,
    MirroredFile,
    file_key,
    manifest_key,
    mirrored_datasets,
    read_manifest,
    wants,
)
from backbeat.cloud.mirror import file_state
from backbeat.cloud.prices import GB, load_cloud_config, require_within
from backbeat.cloud.proofs import Proofs, open_proofs
from backbeat.datasets.registry import Record, load_registry, require_known
from backbeat.remote.bucket import Bucket, StoredObject, open_bucket

# A sample is read in minutes, not hours.
SAMPLE_BYTES = 10**9

State = Literal["ok", "missing", "damaged", "outdated", "unnamed"]


@dataclass(frozen=True)
class Checked:
    """The verdict on one file of the mirror.

    Args:
        dataset: its dataset.
        path: the file, as its record calls it.
        state: `outdated` if the record wants other bytes by now, or is gone; `unnamed` if no manifest names it.
        what: what was looked at, or what is wrong.
        size_bytes: its size, as the manifest says it, or else the listing.
    """

    dataset: str
    path: str
    state: State
    what: str
    size_bytes: int


@dataclass(frozen=True)
class _Item:
    verdict: Checked
    file: MirroredFile
    stored: StoredObject
    url: str

    @property
    def is_doubtful(self) -> bool:
        # Parts have an ETag that is no MD5 of the whole; another MD5 is believed only after reading.
        return "-" not in self.stored.etag and self.stored.etag != self.file.md5

    @property
    def key(self) -> str:
        return file_key(self.verdict.dataset, self.verdict.path)


def check(project: Path, names: Sequence[str] = (), *, full: bool = False, every: bool = False) -> list[Checked]:
    """Return the verdict on every file of the mirror, by dataset and path.

    Args:
        project: the root of the repository.
        names: datasets; none means all of the mirror.
        full: whether to read every file.
        every: whether to read every file of which neither the listing nor an earlier reading shows that it is whole.

    Raises:
        ConfigError: if there is no such dataset, or a manifest is not valid.
        CloudError: if the bucket does not answer, or reading all that would exceed a budget.
    """
    registry = load_registry(project)
    bucket = open_bucket(project)
    listed = list(bucket.list(FOLDER))
    there = mirrored_datasets(listed)
    for name in names:
        require_known(name, sorted({*registry, *there}))
    folders = {one.key.removeprefix(FOLDER).partition("/")[0] for one in listed if "/" in one.key.removeprefix(FOLDER)}
    items: list[_Item] = []
    verdicts: list[Checked] = []
    for name in sorted(set(names) or {*there, *folders}):
        manifest = read_manifest(bucket, name) if name in there else None
        stored = {one.key: one for one in listed if one.key.startswith(file_key(name, ""))}
        verdicts += _around(name, manifest, stored)
        if manifest is not None:
            found = [_listed(bucket, registry.get(name), manifest, file, stored) for file in manifest.files]
            items += [one for one in found if isinstance(one, _Item)]
            verdicts += [one for one in found if isinstance(one, Checked)]
    with open_proofs(project) as proofs:
        shown = [item for item in items if _is_shown(item, proofs)]
        to_read = _to_read(project, items, shown, full=full, every=every)
        read = at_once(lambda item: bucket.md5(item.key) == item.file.md5, to_read)
        for item, is_whole in read.items():
            if is_whole:
                proofs.note_remote(f"{item.url} {item.file.md5}", item.stored.etag, item.stored.size_bytes)
    for item in items:
        verdicts.append(item.verdict if item not in read else _after_reading(item, read[item]))
    return sorted(verdicts, key=lambda one: (one.dataset, one.path))


def _around(name: str, manifest: Manifest | None, stored: dict[str, StoredObject]) -> Iterable[Checked]:
    if manifest is None and not stored:
        yield Checked(name, "", "missing", "the mirror has nothing of it", 0)
    named = {file_key(name, file.path) for file in manifest.files} if manifest else set()
    for key, one in stored.items():
        if key not in named:
            why = "no manifest names it" if manifest else f"there is no {manifest_key(name)}: a push was broken off"
            yield Checked(name, key.removeprefix(file_key(name, "")), "unnamed", why, one.size_bytes)


def _listed(
    bucket: Bucket, record: Record | None, manifest: Manifest, file: MirroredFile, stored: dict[str, StoredObject]
) -> Checked | _Item:
    verdict = Checked(manifest.dataset, file.path, "ok", "name and size", file.size_bytes)
    there = stored.get(file_key(manifest.dataset, file.path))
    if there is None:
        return replace(verdict, state="missing", what="it is in the manifest, not in the bucket")
    if there.size_bytes != file.size_bytes:
        what = f"{there.size_bytes:,} bytes, not {file.size_bytes:,}"
        return replace(verdict, state="damaged", what=what)
    if record is None:
        return replace(verdict, state="outdated", what="the registry has no such dataset")
    if file_state(wants(record, file.path), file) == "outdated":
        return replace(verdict, state="outdated", what="the record wants another file by now")
    if there.etag == file.md5:
        verdict = replace(verdict, what="name, size and MD5")
    return _Item(verdict, file, there, f"{bucket.settings.endpoint_url}/{bucket.settings.bucket}/{there.key}")


def _is_shown(item: _Item, proofs: Proofs) -> bool:
    """Return whether a file is whole as far as can be known without reading it now."""
    return item.stored.etag == item.file.md5 or proofs.is_proven_remotely(
        f"{item.url} {item.file.md5}", item.stored.etag, item.stored.size_bytes
    )


def _to_read(
    project: Path, items: Sequence[_Item], shown: Collection[_Item], *, full: bool, every: bool
) -> list[_Item]:
    config = load_cloud_config(project)
    if full or every:
        chosen = [item for item in items if full or item not in shown]
        total_bytes = sum(item.file.size_bytes for item in chosen)
        require_within(config.budgets, "pull_gb", total_bytes / GB, "reading the mirror")
        return chosen
    chosen = [item for item in items if item.is_doubtful]
    others = [item for item in items if not item.is_doubtful]
    # Those first of which least is known.
    others = sorted(random.sample(others, k=len(others)), key=lambda item: item in shown)
    left_bytes = SAMPLE_BYTES
    for item in others[: config.limits.sample_objects]:
        if item.file.size_bytes <= left_bytes:
            left_bytes -= item.file.size_bytes
            chosen.append(item)
    return chosen


def _after_reading(item: _Item, is_whole: bool) -> Checked:
    if is_whole:
        return replace(item.verdict, what="read")
    return replace(item.verdict, state="damaged", what=f"read: its MD5 is not {item.file.md5}")
