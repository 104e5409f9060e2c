"""What an archive may hold to be extracted.

An archive is refused as a whole if any of this is true of it:

- a name that is not a plain path below the folder: absolute, with `..`, a drive, a backslash, a control or invisible
  formatting character, a part that is empty or longer than 255 bytes, or a part that Windows, Git or DVC act upon
  (`CON`, `.git`, `.dvc`, `dvc.yaml`, …);
- a link, a device, a pipe, a sparse file: regular files and folders only;
- two members of one name, or of names that differ in case or Unicode form only (they are one file on some disks), or
  a file where another member needs a folder;
- more files, folders or bytes than the record declares; bytes are counted as they are written, so a forged size
  or a bomb stops at the limit, and members of a zip that share bytes are refused before anything is written;
- damage of any kind. Archives within archives are files like any other.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from backbeat.datasets.packed.items import Item, Kind
from backbeat.datasets.registry import Unpack
from backbeat.errors import ArchiveError

MAX_PART_BYTES = 255
MAX_NAME_BYTES = 1024  # macOS gives a whole path no more

# Folders cost nothing to declare in an archive: beyond this many for each file they are there to do damage.
FOLDERS_PER_FILE = 16

# Devices to Windows in any folder, whatever ending follows.
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)

# What Git or DVC would act upon, were it in a clone.
_ACTED_UPON = re.compile(r"\.git|\.dvc|\.git(ignore|attributes|modules)|\.dvcignore|dvc\.(yaml|lock)|.*\.dvc")

# Control characters, invisible formatting (which can turn text around), half characters, line ends.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def name_fault(name: str) -> str | None:
    """Return what is wrong with the name of a member of an archive, or None."""
    parts = name.split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "an absolute name"
    if "\\" in name:
        return "a backslash"
    if any(unicodedata.category(letter) in _UNPRINTABLE for letter in name):
        return "a character that cannot be seen"
    if any(part in {"", ".", ".."} for part in parts):
        return "an empty part, '.' or '..'"
    if len(name.encode()) > MAX_NAME_BYTES or any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        return f"more than {MAX_PART_BYTES} bytes in a part, or {MAX_NAME_BYTES:,} in all"
    if any(_RESERVED.fullmatch(part) for part in parts):
        return "the name of a device on Windows"
    if any(_ACTED_UPON.fullmatch(part.casefold()) for part in parts):
        return "a name that Git or DVC act upon"
    return None


@dataclass
class Rules:
    """What may come out of one archive, and what has."""

    archive: str
    limits: Unpack
    files: int = 0
    folders: int = 0
    size_bytes: int = 0
    taken: dict[str, tuple[str, Kind]] = field(default_factory=dict)  # by what the pickiest disk makes of a name

    def admit(self, member: Item) -> str | None:
        """Return the name that a member may have; None for a folder, which is made when a file needs it."""
        if member.kind == "other":
            raise self._refusal(member.name, "regular files and folders", "a link, a device or a sparse file")
        name = member.name.removeprefix("./")
        if member.kind == "folder":
            name = name.removesuffix("/")
            self._count_folder(member.name)
            if name in {"", "."}:  # the folder that was archived
                return None
        else:
            self.files += 1
            self._require(self.files, self.limits.members, "files", name)
        fault = name_fault(name)
        if fault is not None:
            raise self._refusal(member.name, "a plain name below the folder", fault)
        self._take(name, member.kind)
        return name if member.kind == "file" else None

    def count_bytes(self, count: int, name: str) -> None:
        """Count what is about to be written."""
        self.size_bytes += count
        self._require(self.size_bytes, self.limits.bytes, "bytes", name)

    def _count_folder(self, name: str) -> None:
        self.folders += 1
        self._require(self.folders, FOLDERS_PER_FILE * self.limits.members, "folders", name)

    def _take(self, name: str, kind: Kind) -> None:
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            taken = ("/".join(parts[:depth]), kind if depth == len(parts) else "folder")
            key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", taken[0]).casefold())
            known = self.taken.get(key)
            if known is not None and (known != taken or taken[1] == "file"):
                got = f"{known[0]!r}, a {known[1]}, as well as {taken[0]!r}, a {taken[1]}"
                raise self._refusal(name, "names that are apart on every disk", got)
            if known is None and taken[1] == "folder":
                self._count_folder(name)
            self.taken[key] = taken

    def _require(self, count: int, limit: int, what: str, name: str) -> None:
        if count > limit:
            raise self._refusal(name, f"at most {limit:,} {what}, by the record", "more")

    def _refusal(self, name: str, expected: str, got: str) -> ArchiveError:
        step = "look at the archive: it is not what the record describes; correct `unpack` only if that is wrong"
        what = f"{self.archive} is not extracted, because of {name!r}"
        return ArchiveError(what, expected=expected, got=got, next_step=step)
