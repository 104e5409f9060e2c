"""Which clones share a staging store: each leaves a note beside it, `clones/<digest>`, with its path in it.

What one clone has staged and not yet committed has one name in the store, and is reached by links of that clone alone.
Nobody else sees that it is needed, so a clone is known before anything is removed. A file for each, because two clones
may write at once, and so that a move carries all of them over.
"""

from __future__ import annotations

from pathlib import Path

from backbeat.provenance import digest_of
from backbeat.storage.staging import cache_dir, new_file, open_staging

FOLDER = "clones"


def is_registered(project: Path, store: Path) -> bool:
    """Return whether clones with this store (a cache, or `BACKBEAT_DATA_DIR`) can know of `project`."""
    # A store within a clone says by its place whose it is.
    return store.is_relative_to(project / ".dvc") or _note(project, store).is_file()


def register(project: Path, store: Path | None = None) -> None:
    """Let clones that share a store know of `project`; without a store, of the one it has.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    store = store or open_staging(project).root.parent
    if not is_registered(project, store):
        with new_file(_note(project, store)) as part:
            part.write_text(f"{project}\n", encoding="utf-8")


def other_clones(project: Path) -> tuple[list[Path], list[Path]]:
    """Return the other clones that share a store with `project`: those that are there, and those that cannot be seen.

    A clone that is gone is in neither.
    """
    stores = {cache_dir(project), open_staging(project).root.parent}
    paths = {Path(note.read_text(encoding="utf-8").strip()) for store in stores for note in (store / FOLDER).glob("*")
             if not note.name.endswith(".part")}  # fmt: skip
    paths |= {store.parent.parent for store in stores if store.parent.name == ".dvc"}
    there, unseen = [], []
    for path in sorted(paths - {project}):
        try:
            next((path / ".dvc").iterdir(), None)
            next(path.iterdir(), None)
            there.append(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            unseen.append(path)
    return there, unseen


def _note(project: Path, store: Path) -> Path:
    return store / FOLDER / digest_of(str(project))
