"""What the mirror says that it holds: one manifest for each dataset, `mirror/raw/<dataset>.json`, beside its files.

A manifest is written after the last of its files, and is the same for the same files: keys sorted, no dates. It
carries the license, so that whoever finds the files finds what may be done with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from backbeat.config import Strict, validated
from backbeat.datasets.registry import Record, RecordFile
from backbeat.datasets.transport.mirrored import RAW, ROOT
from backbeat.errors import CloudError
from backbeat.remote.bucket import Bucket, StoredObject

FOLDER = f"{ROOT}/{RAW}/"
SUFFIX = ".json"


def _safe_path(path: str) -> str:
    # What a bucket says is data from outside: it may not lead out of the folder that is written to.
    parts = PurePosixPath(path).parts
    if path != "/".join(parts) or ".." in parts or path.startswith("/") or "\\" in path or not path.isprintable():
        raise ValueError("must be relative, with / between folders, and stay where it is put")
    return path


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
SafePath = Annotated[str, AfterValidator(_safe_path)]
Size = Annotated[int, Field(ge=0)]


class MirroredFile(Strict):
    """A file of a dataset, as it is in the mirror."""

    path: SafePath
    size_bytes: Size
    sha256: Sha256
    md5: Md5

    def has_hash(self, promise: tuple[str, str]) -> bool:
        """Return whether it has the hash that a record promises; sha1, which is not noted, is taken for right."""
        algorithm, digest = promise
        return {"sha256": self.sha256, "md5": self.md5}.get(algorithm, digest) == digest


class MirroredLicense(Strict):
    """What may be done with the files."""

    id: str
    url: str | None
    commercial: bool | None
    redistribute: bool
    note: str | None


class Manifest(Strict):
    """The files of one dataset in the mirror."""

    format: Literal[1] = 1
    dataset: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: str
    homepage: str | None
    citation: str | None
    license: MirroredLicense
    files: Annotated[tuple[MirroredFile, ...], Field(strict=False)]

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size_bytes for file in self.files)

    def file(self, path: str) -> MirroredFile | None:
        """Return what it says of a file; None if nothing."""
        return next((file for file in self.files if file.path == path), None)


def manifest_of(record: Record, files: Iterable[MirroredFile]) -> Manifest:
    """Return the manifest of a dataset of which these files are in the mirror."""
    return Manifest(
        dataset=record.name,
        title=record.title,
        homepage=record.homepage,
        citation=record.citation,
        license=MirroredLicense(**record.license.model_dump()),
        files=tuple(sorted(files, key=lambda file: file.path)),
    )


def file_key(dataset: str, path: str) -> str:
    """Return the key of a file in the mirror."""
    return f"{FOLDER}{dataset}/{path}"


def manifest_key(dataset: str) -> str:
    """Return the key of the manifest of a dataset."""
    return f"{FOLDER}{dataset}{SUFFIX}"


def read_manifest(bucket: Bucket, dataset: str) -> Manifest | None:
    """Return what the mirror has of a dataset; None if nothing.

    Raises:
        CloudError: if the bucket does not answer.
        ConfigError: if there is something that is no manifest.
    """
    key = manifest_key(dataset)
    if bucket.head(key) is None:
        return None
    return validated(Manifest, _json(bucket, key), f"s3://{bucket.settings.bucket}/{key}")


def write_manifest(bucket: Bucket, manifest: Manifest) -> None:
    """Write a manifest, unless it is there already.

    Raises:
        CloudError: if the bucket refuses it.
    """
    put_json(bucket, manifest_key(manifest.dataset), manifest)


def put_json(bucket: Bucket, key: str, model: Strict) -> None:
    """Write a model as sorted JSON, unless that is there already.

    Raises:
        CloudError: if the bucket refuses it.
    """
    text = json.dumps(model.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False)
    content = f"{text}\n".encode()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    there = bucket.head(key)
    if there is None or (there.etag, there.size_bytes) != (digest, len(content)):
        bucket.put(key, content, digest)


def mirrored_datasets(listed: Iterable[StoredObject]) -> list[str]:
    """Return the datasets of which a listing of the mirror has a manifest, sorted."""
    names = (one.key.removeprefix(FOLDER) for one in listed)
    return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX) and "/" not in name)


def wants(record: Record, path: str) -> RecordFile | None:
    """Return what a record says of a file of its dataset; None if it has none of that name."""
    return next((file for file in record.files if file.path == path), None)


def _json(bucket: Bucket, key: str) -> Any:
    try:
        return json.loads(bucket.read(key))
    except ValueError as error:
        raise CloudError(
            f"s3://{bucket.settings.bucket}/{key} is damaged",
            expected="JSON",
            got=str(error),
            next_step="backbeat cloud mirror push writes it anew",
        ) from error
