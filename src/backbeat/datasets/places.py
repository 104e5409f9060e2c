"""Where the files of a record are: in the staging store under what they are, linked from `data/raw/<name>/`."""

from __future__ import annotations

from pathlib import Path

from backbeat.datasets.registry import UNVERIFIED, RecordFile
from backbeat.provenance import digest_of
from backbeat.storage.staging import Staging

KIND = "raw"
RAW_FOLDER = "data/raw"


def staged_path(staging: Staging, file: RecordFile) -> Path:
    """Return where in the staging store a file is or will be.

    The hash in a record with `members` is that of the whole archive, which is something else.
    """
    if file.promise is not None:
        digest = file.promise[1]
    elif file.members is not None and file.hash != UNVERIFIED:
        digest = digest_of({"archive": file.hash, "members": file.members.narrowings})
    else:
        digest = digest_of(file.model_dump(mode="json", exclude={"path"}, exclude_none=True))
    return staging.entry(KIND, digest, Path(file.path).suffix)


def own_files(folder: Path) -> list[Path]:
    """Return what in a folder of `data/raw` is not a link: files of somebody's own, which no download made."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if not path.is_symlink() and not path.is_dir())
