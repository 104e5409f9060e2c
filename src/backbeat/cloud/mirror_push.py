"""Sending raw archives to the mirror.

What goes up is proven by its record first. A file is sent whole by rclone, and one that is there already is not sent
again. The manifest of a dataset is written after its files: a push that dies leaves files that no manifest names, and
the next one finishes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from backbeat.cloud.manifest import Manifest, MirroredFile, manifest_of, read_manifest, wants, write_manifest
from backbeat.cloud.mirror import MirrorPlan, Sending, file_state, may_be, require_budget
from backbeat.cloud.prices import load_cloud_config
from backbeat.datasets.checks import note_check
from backbeat.datasets.registry import Record
from backbeat.errors import CloudError
from backbeat.progress import progress
from backbeat.remote.bucket import Bucket, open_bucket
from backbeat.remote.rclone import REMOTE, run_rclone
from backbeat.storage.exclusive import exclusive

BLOCK_BYTES = 2**20


def push(project: Path, plan: MirrorPlan, *, mb_per_s: float | None = None) -> list[Manifest]:
    """Prove and send the files of a plan, then write the manifests.

    Args:
        project: the root of the repository.
        plan: what `plan_push` has returned.
        mb_per_s: the most that is sent, in MB (10^6 bytes) per second; default: what `configs/cloud.yaml` says.

    Returns:
        The manifests, as they are in the bucket now.

    Raises:
        CloudError: if a budget would be exceeded, a file is not what its record promises, or the bucket refuses.
    """
    config = load_cloud_config(project)
    require_budget(config, plan)
    bucket = open_bucket(project)
    manifests = []
    with exclusive(project, "push to the mirror"):
        by_dataset: dict[str, list[MirroredFile]] = {}
        for one in plan.files:
            mirrored = one.there or _sent(bucket, one, mb_per_s or config.limits.mirror_mb_per_s)
            by_dataset.setdefault(one.record.name, []).append(mirrored)
        records = {one.record.name: one.record for one in plan.files}
        for name, files in by_dataset.items():
            manifest = manifest_of(records[name], [*files, *_others(bucket, records[name], files)])
            write_manifest(bucket, manifest)
            manifests.append(manifest)
    return manifests


def proven(one: Sending) -> MirroredFile:
    """Return the hashes of a file that is here, after comparing them with the record.

    Raises:
        CloudError: if it is not what the record promises.
    """
    algorithms = {"sha256", "md5"} | ({one.file.promise[0]} if one.file.promise else set())
    hashers = {name: hashlib.new(name, usedforsecurity=False) for name in sorted(algorithms)}
    label = f"{one.record.name}/{one.file.path}: checking"
    with one.source.open("rb") as content, progress(label, one.size_bytes, unit="bytes") as advance:
        while block := content.read(BLOCK_BYTES):
            for hasher in hashers.values():
                hasher.update(block)
            advance(len(block))
    digests = {name: hasher.hexdigest() for name, hasher in hashers.items()}
    if one.file.promise is not None:
        algorithm, wanted = one.file.promise
        note_check(one.source, one.file.hash, good=digests[algorithm] == wanted)
        if digests[algorithm] != wanted:
            raise CloudError(
                f"{one.record.name}/{one.file.path} is not sent: what is here is not what its record promises",
                expected=one.file.hash,
                got=f"{algorithm}:{digests[algorithm]}",
                next_step=f"backbeat datasets download --verify {one.record.name}",
            )
    return MirroredFile(path=one.file.path, size_bytes=one.size_bytes, sha256=digests["sha256"], md5=digests["md5"])


def _sent(bucket: Bucket, one: Sending, mb_per_s: float | None) -> MirroredFile:
    mirrored = proven(one)
    label = f"{one.record.name}/{one.file.path}"
    # A push that was killed may have sent it: an ETag that is its MD5 proves that.
    there = bucket.head(one.key)
    if there is not None and (there.size_bytes, there.etag) == (mirrored.size_bytes, mirrored.md5):
        return mirrored
    limit = [] if mb_per_s is None else ["--bwlimit", f"{int(mb_per_s * 10**6)}B"]
    # The file's name in the staging store is its hash; what the record calls it is its name in the bucket.
    arguments = ["copyto", str(one.source), f"{REMOTE}:{bucket.settings.bucket}/{one.key}", "--ignore-times", *limit]
    with progress(label, one.size_bytes, unit="bytes") as advance:
        run_rclone(arguments, bucket.settings, bucket.credentials, doing=f"send {label}", advance=advance)
    there = bucket.head(one.key)
    if there is None or not may_be(there, mirrored):
        raise CloudError(
            f"{label} is in the bucket, and not as it was sent",
            expected=f"{mirrored.size_bytes:,} bytes, MD5 {mirrored.md5}",
            got="nothing" if there is None else f"{there.size_bytes:,} bytes, ETag {there.etag}",
            next_step="backbeat cloud mirror push sends it anew",
        )
    return mirrored


def _others(bucket: Bucket, record: Record, files: Sequence[MirroredFile]) -> list[MirroredFile]:
    """Return what the manifest names that is not here, if the record still wants it."""
    manifest = read_manifest(bucket, record.name)
    sent = {file.path for file in files}
    return [
        file
        for file in (manifest.files if manifest else ())
        if file.path not in sent and file_state(wants(record, file.path), file) == "ok"
    ]
