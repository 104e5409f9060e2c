"""What changes beside the name: the texts of a project as their owner wants them, and what is said about it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from backbeat.errors import ConfigError
from backbeat.template.fresh import (
    DESCRIPTION,
    FIRST_VERSION,
    TEMPLATE_SAYS,
    begun,
    described,
    emptied,
    first_paragraph,
    with_holder,
    with_value,
    without_section,
)
from backbeat.template.naming import PROJECT_FILE, TEMPLATE_VERSION

LICENSE, README, CHANGELOG, EXPERIMENTS = "LICENSE", "README.md", "CHANGELOG.md", "docs/experiments.md"

# Documents that begin with what the project is.
_BEGINNINGS = (README, "docs/index.md")

# Sections about how a copy of the template becomes a project.
_ONCE = {README: "Make it yours", "docs/make-it-yours.md": "Name it"}


@dataclass(frozen=True)
class Texts:
    """Texts by path, and a line for each thing in which they differ from those before."""

    texts: Mapping[str, str]
    said: tuple[str, ...] = ()


def owned(texts: Mapping[str, str], holder: str | None, description: str | None, year: int) -> Texts:
    """Return texts with a holder in the license and a description; None leaves it.

    Raises:
        ConfigError: if there is no license to write the holder into, or a file has another form than the one that can
            be edited.
    """
    new, said = dict(texts), []
    if holder is not None:
        if LICENSE not in new:
            raise ConfigError(
                f"there is no {LICENSE} to write the holder into",
                expected="a line Copyright (c) YEAR HOLDER in it",
                next_step=f"git checkout {LICENSE}, or leave --license-holder out",
            )
        new[LICENSE] = with_holder(new[LICENSE], holder, year)
        if new[LICENSE] != texts[LICENSE]:
            said.append(f"{LICENSE}: {holder}, above the template's authors, whose notice stays")
    if description is not None:
        new[PROJECT_FILE] = with_value(new[PROJECT_FILE], "description", description)
        if README in new:
            new[README] = described(new[README], description)
        said += [f"{name}: described anew" for name in (PROJECT_FILE, README) if new.get(name) != texts.get(name)]
    return Texts(new, tuple(said))


def with_description(texts: Mapping[str, str], before: Mapping[str, str]) -> Texts:
    """Return renamed texts with what their owner has said of the project, which is not renamed.

    What describes the template becomes a sentence about a project.
    """
    new, changed = dict(texts), []
    said = str(tomllib.loads(before[PROJECT_FILE])["project"].get("description", ""))
    wanted = DESCRIPTION if TEMPLATE_SAYS in said else said
    changed += [PROJECT_FILE] * (wanted != said)
    if tomllib.loads(new[PROJECT_FILE])["project"].get("description", "") != wanted:
        new[PROJECT_FILE] = with_value(new[PROJECT_FILE], "description", wanted)
    for name in _BEGINNINGS:
        paragraph = first_paragraph(before.get(name, ""))
        if TEMPLATE_SAYS in paragraph:
            new[name] = described(new[name], DESCRIPTION)
            changed.append(name)
        elif paragraph and paragraph == said:
            new[name] = described(new[name], said)
    return Texts(new, tuple(f"{name}: no longer described as a template" for name in changed))


def begun_anew(texts: Mapping[str, str]) -> Texts:
    """Return texts without the template's own history, unless the project has one of its own by now."""
    new, said = dict(texts), []
    for name, heading in _ONCE.items():
        if name in new and (shorter := without_section(new[name], heading)) != new[name]:
            new[name] = shorter
            said.append(f"{name}: without its section {heading}")
    version = tomllib.loads(new[PROJECT_FILE])["project"].get("version")
    if version != TEMPLATE_VERSION:
        stays = f"the version is {version}, and the template's was {TEMPLATE_VERSION}"
        return Texts(new, (*said, f"{CHANGELOG}: stays, as version and diary do: {stays}"))
    if version != FIRST_VERSION:
        new[PROJECT_FILE] = with_value(new[PROJECT_FILE], "version", FIRST_VERSION)
        said.append(f"{PROJECT_FILE}: version {version} -> {FIRST_VERSION}")
    if CHANGELOG in new:
        new[CHANGELOG] = begun(new[CHANGELOG], version)
        said.append(f"{CHANGELOG}: begun anew, with the template's version {version}")
    if EXPERIMENTS in new:
        new[EXPERIMENTS] = emptied(new[EXPERIMENTS])
        if new[EXPERIMENTS] != texts[EXPERIMENTS]:
            said.append(f"{EXPERIMENTS}: the diary is empty, the guide stays")
    return Texts(new, tuple(said))
