"""The record of a packed archive, brought up to date: size, hash and date change, every other byte is a person's."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import yaml

from backbeat.config import load_yaml, parse_yaml, validated
from backbeat.datasets.registry import RECORDS_FOLDER, Record
from backbeat.datasets.transport.hashing import DEFAULT_ALGORITHM, hash_file
from backbeat.errors import ConfigError


def known_record(project: Path, path: Path, archive: Path, address: str) -> Record | None:
    """Return the record of an archive that is to be written, if it has one.

    Args:
        project: root of the repository.
        path: where the record is or will be.
        archive: the file.
        address: of the file, as the record has it.

    Raises:
        ConfigError: if the record is of another archive, or not valid; or the file is there and no record has it.
    """
    if path.exists():
        return _record_of(project, path, address)
    if os.path.lexists(archive):
        raise ConfigError(
            f"{archive} is there already",
            expected=f"no such file, or {RECORDS_FOLDER}/{path.name}, which says that it is this dataset",
            got="a file that no record of this name has",
            next_step="name another file with --out, or remove this one if an interrupted run left it",
        )
    return None


def _record_of(project: Path, path: Path, address: str) -> Record:
    record = validated(Record, load_yaml(path), str(path.relative_to(project)))
    if len(record.files) != 1 or record.files[0].urls != (address,):
        raise ConfigError(
            f"{record.name} is a dataset already",
            expected="a name that is not taken, or that of this archive",
            got=f"{RECORDS_FOLDER}/{record.name}.yaml, of {record.files[0].urls[0]}",
            next_step="choose another name, or name that file with --out",
        )
    return record


def updated_record(path: Path, record: Record, archive: Path) -> bytes:
    """Return the text of a record with the size and hash of an archive, and today as the day when they were seen.

    Args:
        path: the record.
        record: what it says now; of one file.
        archive: the file as it shall be, under whatever name.

    Raises:
        ConfigError: if the text cannot be changed so that it says this and nothing else.
    """
    (file,) = record.files
    digest = f"{DEFAULT_ALGORITHM}:{hash_file(archive, DEFAULT_ALGORITHM, f'{file.path}: checking')}"
    seen = {"size": archive.stat().st_size, "hash": digest}
    content = path.read_bytes()
    if seen == {"size": file.size, "hash": file.hash}:
        return content
    today = dt.datetime.now(dt.UTC).date()
    wanted = record.model_copy(update={"verified_on": today, "files": (file.model_copy(update=seen),)})
    changes = {("files", 0, "size"): str(seen["size"]), ("files", 0, "hash"): digest, ("verified_on",): str(today)}
    changed = _with_scalars(content.decode(), changes).encode()
    try:
        says_so = validated(Record, parse_yaml(changed, path.name), path.name) == wanted
    except ConfigError:
        says_so = False
    if not says_so:
        raise ConfigError(
            f"{RECORDS_FOLDER}/{path.name} cannot be brought up to date",
            expected="size, hash and verified_on as plain values, each in the line of its key",
            got="another way of writing them",
            next_step="write them so; neither the archive nor the record has been changed",
        )
    return changed


def _with_scalars(text: str, changes: dict[tuple[str | int, ...], str]) -> str:
    """Return a YAML text with other scalars in these places, and everything else as it was."""
    found = [(_node(yaml.compose(text, Loader=yaml.SafeLoader), place), new) for place, new in changes.items()]
    for node, new in sorted(found, key=lambda one: -one[0].start_mark.index):
        begin, end = node.start_mark.index, node.end_mark.index
        text = f"{text[:begin]}{new if end > begin else f' {new}'}{text[end:]}"
    return text


def _node(node: Any, place: tuple[str | int, ...]) -> yaml.ScalarNode:
    for step in place:
        node = (dict(enumerate(node.value)) if isinstance(step, int) else {k.value: v for k, v in node.value})[step]
    assert isinstance(node, yaml.ScalarNode)  # the record is valid
    return node
