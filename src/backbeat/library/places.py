"""What is in a folder of samples, or in an archive of them: which files are sounds, and how they are told apart.

- By the suffix of the name; what is hidden, or left by macOS (`__MACOSX`, `._*`), is passed over.
- A folder is entered once, under its own name before that of a symbolic link, so that links in circles end; a file
  behind a link that is already listed under its own name is not listed again. What two sources have in common belongs
  to the first. Otherwise one file would be taken for two, and for a copy of itself.
- An archive is read in its order. Where a tar has a member twice, the last one is meant, as with any unpacking program;
  a zip that has one twice is listed as unreadable. `./a//b.wav` is `a/b.wav`; where an archive has two spellings of one
  name, the second is listed as unreadable.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from backbeat.datasets.packed.containers import is_tar, is_zip, iterate
from backbeat.datasets.packed.items import Item
from backbeat.errors import ArchiveError, BackbeatError, LibraryError

SUFFIXES = {".wav", ".wave", ".aif", ".aiff", ".flac", ".ogg", ".mp3"}

# A member of an archive is read into memory; a one-shot has a thousandth of this.
LARGEST_MEMBER_BYTES = 2**29


@dataclass(frozen=True)
class Place:
    """A file that may be a sound, or an archive.

    Args:
        path: its name below the source, with `/`, as valid text.
        file: where it is.
        error: why it cannot be read, where that is known already.
    """

    path: str
    file: Path
    error: str | None = None

    @property
    def is_archive(self) -> bool:
        """Whether its members are meant."""
        return is_archive(self.file.name)


@dataclass
class Seen:
    """The folders and files that have been listed, as the file system numbers them."""

    folders: set[tuple[int, int]] = field(default_factory=set)
    files: set[tuple[int, int]] = field(default_factory=set)

    def new(self, kind: set[tuple[int, int]], path: Path) -> bool:
        """Return whether this folder or file was not there before; it is from now on."""
        status = path.stat()
        key = (status.st_dev, status.st_ino)
        if key in kind:
            return False
        kind.add(key)
        return True


def is_archive(name: str) -> bool:
    """Return whether a file of this name is opened to look for sounds."""
    return is_tar(name) or is_zip(name)


def is_sound(path: str) -> bool:
    """Return whether a file of this name is taken for a sound: by its suffix, unless it is hidden."""
    parts = PurePosixPath(path).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and PurePosixPath(path).suffix.lower() in SUFFIXES


def walk(root: Path, seen: Seen) -> Iterator[Place]:
    """Yield the sounds and archives below a folder, in no particular order.

    Args:
        root: the folder.
        seen: what other sources have listed; it grows.
    """
    links: list[Path] = []
    if seen.new(seen.folders, root):
        yield from _walk(root, root, seen, links)
    # Everything under its own name first; links found behind links come last.
    while links:
        link = links.pop(0)
        try:
            if link.is_dir():
                if seen.new(seen.folders, link):
                    yield from _walk(root, link, seen, links)
            elif link.exists() and seen.new(seen.files, link):
                yield _place(root, link)
        except OSError as error:
            yield _place(root, link, f"it cannot be opened: {error.strerror}")


def _walk(root: Path, folder: Path, seen: Seen, links: list[Path]) -> Iterator[Place]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        yield _place(root, folder, f"the folder cannot be opened: {error.strerror}")
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        wanted = is_sound(entry.name) or is_archive(entry.name)
        if entry.is_symlink():
            # A link that leads nowhere has nothing to lose.
            if wanted or path.is_dir():
                links.append(path)
        elif entry.is_dir(follow_symlinks=False):
            if seen.new(seen.folders, path):
                yield from _walk(root, path, seen, links)
        elif wanted and entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            key = (status.st_dev, status.st_ino)
            # Two hard links are two names of which one may go; they are both listed.
            if status.st_nlink > 1 or key not in seen.files:
                seen.files.add(key)
                yield _place(root, path)


def _place(root: Path, file: Path, error: str | None = None) -> Place:
    name = file.relative_to(root).as_posix()
    # Names are bytes; those that are no UTF-8 cannot be written into a table.
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    if text != name:
        error = error or "its name is not UTF-8: rename it"
    return Place(text, file, error)


@dataclass(frozen=True)
class Members:
    """The sounds in an archive.

    Args:
        names: by their place among all files of the archive, without `./`, `//` and a `/` at the beginning.
        repeated: members whose name is that of another, as the archive spells them.
        error: what is wrong with the archive; the members before it are right.
    """

    names: dict[int, str]
    repeated: tuple[str, ...] = ()
    error: str | None = None

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        return json.dumps([list(self.names.items()), self.repeated, self.error]).encode()

    @staticmethod
    def from_bytes(content: bytes) -> Members:
        """Return what `to_bytes` wrote."""
        names, repeated, error = json.loads(content)
        return Members(dict(names), tuple(repeated), error)


def read_members(archive: Path) -> Members:
    """Return what sounds an archive has; of a tar all headers are read for it."""
    spelled: dict[str, int] = {}
    error: str | None = None
    try:
        for at, item in enumerate(iterate(archive)):
            if is_sound(item.name):
                spelled[item.name] = at
    except (ArchiveError, OSError) as failure:
        error = one_line(failure)
    names: dict[str, int] = {}
    repeated = []
    # The one that is spelled plainly has the name, else the first.
    for spelling, at in sorted(spelled.items(), key=lambda one: (one[0] != _plain(one[0]), one[1])):
        if names.setdefault(_plain(spelling), at) != at:
            repeated.append(spelling)
    return Members({at: name for name, at in names.items()}, tuple(repeated), error)


def _plain(name: str) -> str:
    return PurePosixPath(name).as_posix().lstrip("/")


def one_line(error: Exception) -> str:
    """Return an error as a table has it."""
    return "; ".join(line.strip() for line in str(error).splitlines())


def each_member(archive: Path, wanted: Mapping[int, str]) -> Iterator[tuple[int, bytes | BackbeatError]]:
    """Yield the content of each of these members, or why it cannot be had, in the order of the archive.

    Args:
        archive: a zip or a tar.
        wanted: their places among all files of it, and their names.
    """
    left = dict(wanted)
    failure: BackbeatError = LibraryError(f"{archive.name} has no such member any more", next_step="scan again")
    try:
        with contextlib.closing(iterate(archive)) as items:
            for at, item in enumerate(items):
                if at in left:
                    yield at, _content(item)
                    del left[at]
                if not left:
                    return
    except (ArchiveError, OSError) as error:
        failure = error if isinstance(error, BackbeatError) else ArchiveError(f"{archive.name} cannot be read: {error}")
    yield from ((at, failure) for at in left)


def _content(item: Item) -> bytes | BackbeatError:
    if item.size_bytes > LARGEST_MEMBER_BYTES:
        return ArchiveError(
            f"{item.name} is too large to be read inside an archive",
            expected=f"at most {LARGEST_MEMBER_BYTES:,} bytes",
            got=f"{item.size_bytes:,}",
            next_step="unpack the archive",
        )
    try:
        return item.read()
    except ArchiveError as error:
        return error
