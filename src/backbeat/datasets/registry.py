"""The registry: one YAML record per dataset, `configs/datasets/<name>.yaml`.

Adding the file registers the dataset; the next download (or `make docs`) gives it a stage in `data/dvc.yaml`.

A record's keys always stand in the order of the models below, so that two records can be read side by side. Only
its `files` section says which bytes are wanted, and only that section can trigger a download:

- `path` is where the file goes, below `data/raw/<name>/`: relative, with `/`, never out of that folder.
- `urls` are tried in order; the first is the publisher's place, the others are mirrors of the same bytes:
  `http://…`, `https://…`; `hf://datasets/<repo>@<revision>/<file>`; `gdrive://<id>`; `zenodo://<record>/<file>`;
  `file:///absolute/path` or `file:path/in/the/project` (a copy of your own; the second form means the same on
  every machine); `generate://mini`; `manual://<where>` (a person has to fetch it). No address holds a password.
- `size` is in bytes, exact, or null where nobody has published it: the hash proves the bytes all the same, only the
  room that they need is not known beforehand. `approximate_size` then says about how much all files are together.
- `hash` is `sha256:…`, `md5:…` or `sha1:…` in lower-case hex, or the literal `unverified`.
- `members` picks some members of a zip archive; `size` and `hash` are then still those of the whole archive, and
  each member is proven by the CRC-32 in the archive instead.
- `unpack` is for an archive whose layout cannot be read in place. It declares how much may come out, at most: a
  bomb stops there. Everything else stays packed.

`license.id` is the SPDX identifier, or `public-domain`, or `per-item` where each item has a license of its own, or
`unknown` where none is stated. What is not stated is not allowed: such a set may not be handed on.

A dataset with `excluded` is known, and its reason can be read, but it is never fetched.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from backbeat.config import Strict, load_yaml, validated
from backbeat.errors import ConfigError

RECORDS_FOLDER = "configs/datasets"
UNVERIFIED = "unverified"
HASH_PATTERN = rf"^(sha256:[0-9a-f]{{64}}|md5:[0-9a-f]{{32}}|sha1:[0-9a-f]{{40}}|{UNVERIFIED})$"

# Not SPDX identifiers, which has none for these.
PUBLIC_DOMAIN = "public-domain"
PER_ITEM = "per-item"
UNKNOWN = "unknown"

_URL_SHAPES = {
    "http": r"http://[^/@]+/.+",
    "https": r"https://[^/@]+/.+",
    "hf": r"hf://datasets/[^/@]+/[^/@]+@[^/@]+/.+",
    "gdrive": r"gdrive://[A-Za-z0-9_-]+",
    "zenodo": r"zenodo://[0-9]+/.+",
    "file": r"file:(///.+|[^/].*)",
    "generate": r"generate://mini",
    "manual": r"manual://.+",
}


def _safe_path(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or re.match(r"^[A-Za-z]:", path):
        raise ValueError("must be relative, with / between folders")
    if any(part in {"", ".", ".."} for part in parts):
        raise ValueError("must not have empty parts, '.' or '..'")
    if any(unicodedata.category(letter).startswith("C") for letter in path):
        raise ValueError("must not have control characters")
    return path


def _known_url(url: str) -> str:
    scheme = url_scheme(url)
    if scheme not in _URL_SHAPES:
        raise ValueError(f"must start with one of {', '.join(f'{known}:' for known in _URL_SHAPES)}")
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("must not have spaces or control characters; write %20 for a space")
    if scheme in {"http", "https"} and "@" in urlsplit(url).netloc:
        raise ValueError("must not hold a user name or password: records are tracked in Git")
    if not re.fullmatch(_URL_SHAPES[scheme], url):
        raise ValueError(f"must look like {_URL_SHAPES[scheme]}")
    if scheme == "file" and not url.startswith("file:///"):
        _safe_path(url.removeprefix("file:"))
    return url


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values or len(set(values)) != len(values):
        raise ValueError("must name at least one thing, and nothing twice")
    return values


def url_scheme(url: str) -> str:
    """Return what stands before the first colon, in lower case."""
    return url.partition(":")[0].lower()


Phase = Literal["minimal", "balanced", "comprehensive"]
PHASES: tuple[Phase, ...] = get_args(Phase)


class Ordered(Strict):
    """A strict model whose keys must stand in the order of its fields."""

    @model_validator(mode="before")
    @classmethod
    def _keys_in_order(cls, values: Any) -> Any:
        if isinstance(values, dict):
            given = [key for key in values if key in cls.model_fields]
            expected = [key for key in cls.model_fields if key in values]
            if given != expected:
                raise ValueError(f"the keys must stand in this order: {', '.join(expected)}")
        return values


# YAML has lists only; a tuple is what cannot change. The elements stay strict.
Urls = Annotated[tuple[Annotated[str, AfterValidator(_known_url)], ...], Field(strict=False), AfterValidator(_distinct)]
Kits = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False), AfterValidator(_distinct)]
Splits = Annotated[tuple[Literal["train", "validation", "test"], ...], Field(strict=False), AfterValidator(_distinct)]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Text, ...], Field(strict=False), AfterValidator(_distinct)]


class Members(Ordered):
    """The part of an archive that is wanted: what fits all of the given narrowings.

    Args:
        kits: kit numbers, for the layout `egmd`.
        splits: splits, for the layout `egmd`.
        drummers: drummers as the table calls them, for the layout `egmd`.
        names: patterns of member names, as in a shell (`*` also stands for `/`), for any zip archive.
    """

    kits: Kits | None = None
    splits: Splits | None = None
    drummers: Names | None = None
    names: Names | None = None

    @model_validator(mode="after")
    def _narrows_something(self) -> Members:
        if self.narrowings == {}:
            raise ValueError("must name kits, splits, drummers or names; leave members out for the whole archive")
        return self

    @property
    def narrowings(self) -> dict[str, tuple[Any, ...]]:
        """What was given, by its key."""
        return {key: value for key, value in self if value is not None}


class Unpack(Ordered):
    """How much may come out of an archive, at most."""

    members: Annotated[int, Field(gt=0)]
    bytes: Annotated[int, Field(gt=0)]


class License(Ordered):
    """What may be done with the data."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.+-]+$")]  # SPDX, or one of the three words above
    url: Text | None
    commercial: bool | None  # None: not stated, or not the same for every item
    redistribute: bool
    note: Text | None

    @model_validator(mode="after")
    def _allows_no_more_than_its_name(self) -> License:
        if "-NC" in self.id and self.commercial is not False:
            raise ValueError("commercial must be false: the license is a non-commercial one")
        if self.id in {PER_ITEM, UNKNOWN} and (self.commercial or self.redistribute):
            raise ValueError(f"a license that is {self.id} allows neither commercial use nor redistribution of the set")
        return self


class RecordFile(Ordered):
    """One file of a dataset, where it can be had, and what proves that it is the right one."""

    path: Annotated[str, AfterValidator(_safe_path)]
    urls: Urls
    size: Annotated[int, Field(gt=0)] | None
    hash: Annotated[str, Field(pattern=HASH_PATTERN)]
    members: Members | None = None
    unpack: Unpack | None = None

    @property
    def promise(self) -> tuple[str, str] | None:
        """The algorithm and the hex digest that the bytes must have; None if unverified, or only members are wanted."""
        algorithm, _, digest = self.hash.partition(":")
        return (algorithm, digest) if digest and self.members is None else None

    @property
    def promised_bytes(self) -> int | None:
        """The size that the file must have; None if it is not known, or only members are wanted."""
        return self.size if self.members is None else None


class Record(Ordered):
    """Everything that is known about one dataset; the fields are in the order of the file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: Text
    phase: Phase | None  # None: in no phase; selected by name or collection
    priority: Annotated[int, Field(ge=1, le=5)]
    collections: dict[str, Literal["required", "optional"]]
    layout: Literal["egmd", "audio-folder", "midi-folder", "npy", "table", "none"]
    purpose: Text
    license: License
    excluded: Text | None = None  # why this dataset is not fetched, ever
    homepage: Text | None
    citation: Text | None
    notes: Text | None
    verified_on: dt.date | None
    approximate_size: Annotated[int, Field(gt=0)] | None = None  # bytes; for where a file's exact size is not published
    files: Annotated[tuple[RecordFile, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _files_apart(self) -> Record:
        if not self.files:
            raise ValueError("files must name at least one file")
        # Names that differ in case or Unicode form only are one file on some disks.
        paths = [unicodedata.normalize("NFC", file.path).casefold() for file in self.files]
        for path in paths:
            if paths.count(path) > 1 or any(other.startswith(f"{path}/") for other in paths):
                raise ValueError(f"the path {path} is taken twice")
        return self

    @model_validator(mode="after")
    def _says_one_thing(self) -> Record:
        if self.verified_on and any(file.hash == UNVERIFIED or file.size is None for file in self.files):
            raise ValueError("verified_on must be null until every file has a size and a hash")
        if self.excluded and (self.phase or self.collections):
            raise ValueError("an excluded dataset must have the phase null and be in no collection")
        known_bytes = sum(file.promised_bytes or 0 for file in self.files)
        if self.approximate_size and (self.size_bytes is not None or self.approximate_size < known_bytes):
            raise ValueError("approximate_size is for all files together, and only where one has no exact size")
        return self

    @property
    def size_bytes(self) -> int | None:
        """The size of all files together; None if one of them is not known."""
        sizes = [file.promised_bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def expected_bytes(self) -> int | None:
        """The size to plan with: the exact one, else the approximate one; None if neither is known."""
        return self.size_bytes if self.size_bytes is not None else self.approximate_size


def load_record(project: Path, name: str) -> Record:
    """Load the record of one dataset.

    Raises:
        ConfigError: if there is no such dataset (with the nearest name that exists), or its record is not valid.
    """
    require_known(name, _names(project))
    where = f"{RECORDS_FOLDER}/{name}.yaml"
    record = validated(Record, load_yaml(project / where), where)
    if record.name != name:
        raise ConfigError(
            f"{where} is not valid",
            expected=f"name: {name}, as the file is called",
            got=f"name: {record.name}",
            next_step="rename the file or correct the name",
        )
    return record


def require_known(name: str, known: Collection[str]) -> None:
    """Raise a ConfigError, with the nearest name that exists, if there is no such dataset."""
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    raise ConfigError(
        f"unknown dataset {name}" + (f"; did you mean {near[0]}?" if near else ""),
        expected=f"one of {', '.join(known) or '(the registry is empty)'}",
        next_step=f"backbeat datasets list, or add {RECORDS_FOLDER}/{name}.yaml",
    )


def load_registry(project: Path) -> dict[str, Record]:
    """Load every record, sorted by name.

    Raises:
        ConfigError: for the first record that is not valid.
    """
    return {name: load_record(project, name) for name in _names(project)}


def _names(project: Path) -> list[str]:
    folder = project / RECORDS_FOLDER
    for stray in sorted(folder.glob("*.yml")):
        raise ConfigError(
            f"{RECORDS_FOLDER}/{stray.name} would not be read",
            expected="records that end in .yaml",
            got=stray.name,
            next_step=f"git mv {RECORDS_FOLDER}/{stray.name} {RECORDS_FOLDER}/{stray.stem}.yaml",
        )
    return sorted(path.stem for path in folder.glob("*.yaml"))
