"""Making a clone of the template somebody's own: bucket, region, folder in the bucket, budget, in the tracked files.

Files are edited as text, so that their comments stay, and read back to prove that exactly what was meant has changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from configobj import ConfigObj, ConfigObjError  # type: ignore[import-untyped,unused-ignore]

from backbeat.cloud.choices import Choices
from backbeat.config import validated
from backbeat.errors import ConfigError
from backbeat.remote.policy import CLOUD_FILE, CloudConfig, load_cloud_config
from backbeat.storage.staging import new_file

DVC_FILE = ".dvc/config"

# The files that choices are in.
BUCKET_FILES = (DVC_FILE, CLOUD_FILE)


@dataclass(frozen=True)
class Change:
    """One value of one file."""

    file: str
    what: str
    before: str | None
    after: str


def present(project: Path) -> Choices:
    """Return what the tracked files say now; `.dvc/config.local` and the environment are not asked.

    Raises:
        ConfigError: if one of them cannot be read, or there is no default remote on S3.
    """
    values = _remote(_parsed(_text(project)), project)[1]
    address = urlsplit(str(values.get("url", "")))
    if address.scheme != "s3":
        raise ConfigError(
            f"the default remote in {project / DVC_FILE} is not an S3 bucket",
            expected="an url s3://BUCKET/FOLDER",
            got=str(values.get("url")),
            next_step="dvc remote default b2",
        )
    return Choices(
        name=address.path.strip("/"),
        bucket=address.netloc,
        region=str(values.get("region", "")),
        endpoint_url=str(values.get("endpointurl", "")),
        budget_usd=load_cloud_config(project).budgets.usd_per_month,
    )


def plan(project: Path, choices: Choices) -> tuple[list[Change], dict[str, str]]:
    """Return what would change, and the new texts of the files in which it would; writes nothing.

    Raises:
        ConfigError: if a file has another form than the one that can be edited.
    """
    changes: list[Change] = []
    before = _text(project)
    text = before
    section, values = _remote(_parsed(before), project)
    wanted = {
        "url": f"s3://{choices.bucket}/{choices.name}",
        "endpointurl": choices.endpoint_url,
        "region": choices.region,
    }
    for option, value in wanted.items():
        if values.get(option) != value:
            changes.append(Change(DVC_FILE, option, values.get(option), value))
            text = _with_option(text, section, option, value)
    _prove(project / DVC_FILE, _parsed(text), {**_parsed(before), section: {**values, **wanted}})
    texts = {DVC_FILE: text} if text != before else {}
    budget_before = load_cloud_config(project).budgets.usd_per_month
    if choices.budget_usd is not None and choices.budget_usd != budget_before:
        changes.append(Change(CLOUD_FILE, "usd_per_month", _dollars(budget_before), _dollars(choices.budget_usd)))
        texts[CLOUD_FILE] = _with_budget(project / CLOUD_FILE, choices.budget_usd)
    return changes, texts


def write(project: Path, texts: Mapping[str, str]) -> None:
    """Write the texts of a plan, each whole or not at all.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    for name, text in sorted(texts.items()):
        path = project / name
        with new_file(path) as part:
            part.write_text(text, encoding="utf-8")
            part.chmod(path.stat().st_mode & 0o777)


def overridden(project: Path) -> list[str]:
    """Return which of the choices `.dvc/config.local` says otherwise on this machine."""
    path = project / ".dvc" / "config.local"
    if not path.is_file():
        return []
    section = _remote(_parsed(_text(project)), project)[0]
    local = _parsed(path.read_text(encoding="utf-8")).get(section, {})
    return [option for option in ("url", "endpointurl", "region") if option in local]


def _text(project: Path) -> str:
    try:
        return (project / DVC_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{project / DVC_FILE} cannot be read", got=str(error), next_step=f"git checkout {DVC_FILE}"
        ) from error


def _parsed(text: str) -> dict[str, Any]:
    """Parse as DVC does."""
    try:
        return dict(ConfigObj(text.splitlines(), interpolation=False).dict())
    except ConfigObjError as error:
        raise ConfigError(
            f"{DVC_FILE} cannot be parsed", got=str(error), next_step=f"correct it, or git checkout {DVC_FILE}"
        ) from error


def _remote(config: Mapping[str, Any], project: Path) -> tuple[str, dict[str, Any]]:
    """Return section and options of the default remote."""
    name = config.get("core", {}).get("remote")
    section = f'remote "{name}"'
    if not name or section not in config:
        raise ConfigError(
            f"{project / DVC_FILE} names no default remote",
            expected='core.remote, and a section of that name: remote "b2"',
            got=f"remote = {name}" if name else "neither",
            next_step=f"git checkout {DVC_FILE}, or: dvc remote add --default b2 s3://…",
        )
    return section, dict(config[section])


def _with_option(text: str, section: str, option: str, value: str) -> str:
    """Set an option of a section that is there, in its line, or in a new one below the section's header."""
    lines = text.splitlines(keepends=True)
    header = re.compile(rf"\s*\[\s*(['\"]?){re.escape(section)}\1\s*\]")
    start = next((number for number, line in enumerate(lines) if header.match(line)), None)
    if start is None:
        raise ConfigError(f"{DVC_FILE} has no line [{section}]", next_step=f"git checkout {DVC_FILE}")
    end = next((n for n in range(start + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
    there = re.compile(rf"(\s*{option}\s*=\s*)(\"[^\"\n]*\"|'[^'\n]*'|[^#\n]*?)(\s*(?:#.*)?\n?)")
    for number in range(start + 1, end):
        if match := there.fullmatch(lines[number]):
            lines[number] = f"{match[1]}{value}{match[3]}"
            return "".join(lines)
    lines.insert(start + 1, f"    {option} = {value}\n")
    return "".join(lines)


def _with_budget(path: Path, budget_usd: float) -> str:
    text = path.read_text(encoding="utf-8")
    block = re.search(r"^budgets:.*\n(?:(?:[ \t].*|#.*|)\n)*", text, flags=re.MULTILINE)
    line = re.compile(r"^([ \t]+usd_per_month:[ \t]*)([^\s#]+)([ \t]*)", flags=re.MULTILINE)
    match = line.search(text, block.start(), block.end()) if block else None
    if match is None:
        raise ConfigError(
            f"{path} has no line usd_per_month below budgets",
            expected="one key to a line",
            next_step="write it there by hand",
        )
    value = _dollars(budget_usd)
    # The comment behind it stays in its column.
    gap = " " * max(2, len(match[2]) + len(match[3]) - len(value)) if match[3] else ""
    after = f"{text[: match.start()]}{match[1]}{value}{gap}{text[match.end() :]}"
    was = yaml.safe_load(text)
    wanted = {**was, "budgets": {**was["budgets"], "usd_per_month": budget_usd}}
    _prove(path, yaml.safe_load(after), wanted)
    validated(CloudConfig, wanted, str(path))
    return after


def _dollars(budget_usd: float | None) -> str:
    return "null" if budget_usd is None else repr(float(budget_usd))


def _prove(path: Path, found: object, wanted: object) -> None:
    if found != wanted:
        raise ConfigError(
            f"{path} has a form that cannot be edited without changing something else",
            expected="a key and its value on one line",
            next_step="edit it by hand; the comments in it say what each value means",
        )
