"""What a new owner begins anew: license, description, changelog, the diary of experiments, what is about the template.

Functions from text to text.
"""

from __future__ import annotations

import json
import re
import tomllib

from backbeat.errors import ConfigError

FIRST_VERSION = "0.1.0"

# Below it is a table with a line for each entry; the guide stands above it.
DIARY = "## Diary"

# What the first paragraph of a document says where it describes the template, and what it says then.
TEMPLATE_SAYS = "repository template"
DESCRIPTION = "Audio machine learning with declared data, versioned artifacts, and one command from nothing to a model."

_COPYRIGHT = re.compile(r"^Copyright .*$", re.MULTILINE)
_YEARS = re.compile(r"^Copyright (?:\(c\)|\u00a9)? *[0-9,\u2013 -]*", re.IGNORECASE)
_PARAGRAPH = re.compile(r"\A(# [^\n]*\n\n)((?:[^\n]+\n)+)")


def check_line(option: str, text: str) -> str:
    """Return a text without blanks around it.

    Raises:
        ConfigError: if it is empty, or more than a line.
    """
    plain = text.strip()
    if not plain or not plain.isprintable():
        raise ConfigError(f"{option} cannot be right", expected="one line", got=repr(text), next_step=f"give {option}")
    return plain


def with_holder(text: str, holder: str, year: int) -> str:
    """Return a license with a holder above the template's authors, whose notice the license wants kept.

    A holder who is there already, of any year, stays as he is; another one takes his place.

    Raises:
        ConfigError: if there is no line that begins with Copyright.
    """
    lines = list(_COPYRIGHT.finditer(text))
    if not lines:
        raise ConfigError(
            "LICENSE has no copyright line", expected="Copyright (c) YEAR HOLDER", next_step="write it by hand"
        )
    own = lines[0] if len(lines) > 1 else None
    if own and _YEARS.sub("", own[0]) == holder:
        return text
    start, end = own.span() if own else (lines[0].start(), lines[0].start())
    return f"{text[:start]}Copyright (c) {year} {holder}{'' if own else chr(10)}{text[end:]}"


def with_value(project_text: str, key: str, value: str) -> str:
    """Return a `pyproject.toml` with another value of a key of its section [project].

    Raises:
        ConfigError: if the key has no line of its own.
    """
    # TOML's basic strings are JSON's.
    after, count = re.subn(
        rf'^({key} = )"(?:[^"\\\n]|\\.)*"', lambda line: line[1] + json.dumps(value, ensure_ascii=False), project_text,
        count=1, flags=re.MULTILINE,
    )  # fmt: skip
    if not count or tomllib.loads(after)["project"].get(key) != value:
        raise ConfigError(
            f"pyproject.toml has no line {key} = … below [project]", next_step="write it there by hand: one key a line"
        )
    return after


def first_paragraph(document: str) -> str:
    """Return the first paragraph below a document's title, on one line; empty if there is none."""
    match = _PARAGRAPH.match(document)
    return " ".join(match[2].split()) if match else ""


def described(document: str, description: str) -> str:
    """Return a document whose first paragraph is the description."""
    return _PARAGRAPH.sub(lambda top: f"{top[1]}{description}\n", document)


def without_section(document: str, heading: str) -> str:
    """Return a document without the section of a heading."""
    before, line, after = document.partition(f"\n## {heading}\n")
    return before + "".join(after.partition("\n## ")[1:]) if line else document


def begun(changelog: str, version: str) -> str:
    """Return a changelog that begins with the template."""
    top = changelog.partition("\n## ")[0].rstrip("\n")
    return f"{top}\n\n## Unreleased\n\n- Begun from the Backbeat template, version {version}.\n"


def emptied(experiments: str) -> str:
    """Return the page of experiments with its guide; of the diary, with its beginning and the head of its table."""
    guide, heading, rest = experiments.partition(f"\n{DIARY}\n")
    diary, after, others = rest.partition("\n## ")
    head = re.search(r"^\|[-|: ]+\|\n", diary, flags=re.MULTILINE)
    return guide + heading + (diary[: head.end()] if head else diary) + after + others
