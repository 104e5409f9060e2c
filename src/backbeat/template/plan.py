"""What it takes to make a project somebody's own: computed from what is committed, before anything is written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from backbeat.errors import ConfigError
from backbeat.template.fresh import check_line
from backbeat.template.left import ignoring, is_left, kept_outputs, moved_paths, moved_target
from backbeat.template.lockfiles import LOCK, relocked
from backbeat.template.naming import PROJECT_FILE, TEMPLATE, Naming, check_name, present_naming
from backbeat.template.owned import LICENSE, README, begun_anew, owned, with_description
from backbeat.template.renaming import occurrences, renamed_document
from backbeat.template.tidying import LONG_LINES, require_ruff, tidied
from backbeat.template.tree import (
    Tracked,
    changed_paths,
    committed,
    differing,
    finish,
    is_interrupted,
    shown,
    unknown,
    year_of_head,
)

# What other parts of the program write: of the renamed files, those with another text.
Edits = Callable[[Mapping[str, Tracked]], Mapping[str, str]]

_CODE = re.compile(r"^(```+).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Owner:
    """What somebody chooses for a project; None stays as it is.

    Args:
        name: the project's, which becomes that of the distribution, the program and the package.
        license_holder: who has the rights beside the template's authors.
        description: a sentence, for `pyproject.toml` and the top of the README.
    """

    name: str | None = None
    license_holder: str | None = None
    description: str | None = None


@dataclass(frozen=True)
class Renaming:
    """What is to be written.

    Args:
        before: the name it has.
        after: the name it gets.
        files: new contents, by path.
        gone: paths whose files are somewhere else afterwards.
        places: how often the name is replaced.
        said: what changes beside the name, a line for each.
    """

    before: Naming
    after: Naming
    files: Mapping[str, Tracked]
    gone: tuple[str, ...] = ()
    places: int = 0
    said: tuple[str, ...] = ()

    @property
    def package(self) -> tuple[str, str] | None:
        """The folder that is renamed, and what it becomes; None if the name stays."""
        return None if self.before == self.after else _packages(self.before, self.after)


def present(project: Path) -> Naming:
    """Return the name that the project has now.

    Raises:
        ConfigError: if `pyproject.toml` does not say it.
    """
    return present_naming(_read(project, PROJECT_FILE))


def plan_owner(project: Path, owner: Owner, edits: Edits) -> Renaming:
    """Return what is to be written so that the project is `owner`'s; nothing is written.

    Args:
        project: the root of the clone.
        owner: what is chosen.
        edits: what else is to be written; asked only if the name changes.

    Raises:
        ConfigError: if the name cannot be had, there are changes that are not committed, or a file has another form
            than the one that can be edited.
    """
    holder = None if owner.license_holder is None else check_line("--license-holder", owner.license_holder)
    description = None if owner.description is None else check_line("--description", owner.description)
    now = present(project)
    if owner.name is None or (owner.name == now.program and not is_interrupted(project)):
        return _same_name(project, now, holder, description)
    files = committed(project)
    before = present_naming(_text(files[PROJECT_FILE]) or "")
    after = check_name(owner.name, project)
    if before == after:
        if changed := changed_paths(project):
            raise _not_committed(changed)
        # Killed as the last thing, and committed since.
        finish(project)
        return _same_name(project, now, holder, description)
    require_ruff()
    refuse_taken(files, after)
    texts = {path: text for path, file in files.items() if (text := _text(file)) is not None}
    kept = kept_outputs(texts, before)
    beside = owned(_renamed_texts(texts, before, after, kept), holder, None, year_of_head(project))
    says = with_description(beside.texts, texts)
    new, said = dict(says.texts), beside.said + says.said
    if before.program == TEMPLATE:
        begins = begun_anew(new)
        new, said = dict(begins.texts), said + begins.said
    if description is not None:
        # By the owner, and about the project: it says what it says, whatever the project is called.
        tells = owned(new, None, description, 0)
        new, said = dict(tells.texts), said + tells.said
    moved = moved_paths(files, before, after, kept)
    contents = {moved[path]: _moved(path, file, moved, _packages(before, after)) for path, file in files.items()}
    contents |= {moved[path]: replace(files[path], content=text.encode()) for path, text in new.items()}
    original = {moved[path]: file for path, file in files.items()}
    contents |= _edited(contents, edits(contents))
    contents, longest = _tidied(contents, original)
    contents = _relocked(contents, original)
    renaming = Renaming(
        before, after,
        files={path: file for path, file in contents.items() if files.get(path) != file},
        gone=tuple(path for path in files if moved[path] != path),
        places=sum(occurrences(text, before) for path, text in texts.items() if not is_left(path)),
        said=(*said, *longest, *_unparsed(texts, before), *_along(project, before, after, files)),
    )  # fmt: skip
    if others := differing(project, renaming.files, renaming.gone):
        raise _not_committed(others)
    return renaming


def _same_name(project: Path, now: Naming, holder: str | None, description: str | None) -> Renaming:
    names = [LICENSE] * (holder is not None) + [PROJECT_FILE, README] * (description is not None)
    texts = {name: _read(project, name) for name in names}
    new = owned(texts, holder, description, year_of_head(project) if holder else 0)
    changed = {name: text for name, text in new.texts.items() if text != texts[name]}
    return Renaming(now, now, {name: Tracked(text.encode()) for name, text in changed.items()}, said=new.said)


def _packages(before: Naming, after: Naming) -> tuple[str, str]:
    return f"src/{before.package}", f"src/{after.package}"


def _renamed_texts(texts: Mapping[str, str], before: Naming, after: Naming, kept: tuple[str, ...]) -> dict[str, str]:
    new = {}
    for path, text in texts.items():
        if is_left(path):
            new[path] = text
        elif Path(path).name == ".gitignore":
            new[path] = ignoring(text, before, after, kept)
        else:
            new[path] = renamed_document(path, text, before, after, kept)
    return new


def _moved(path: str, file: Tracked, moved: Mapping[str, str], package: tuple[str, str]) -> Tracked:
    if not file.is_link:
        return file
    return replace(file, content=os.fsencode(moved_target(path, os.fsdecode(file.content), moved, package)))


def _unparsed(texts: Mapping[str, str], before: Naming) -> list[str]:
    return [
        f"{path}: renamed as text; look through it, since code in it is not read as Python"
        for path, text in texts.items() if path.endswith(".ipynb") and occurrences(text, before)
    ]  # fmt: skip


def _along(project: Path, before: Naming, after: Naming, tracked: Mapping[str, Tracked]) -> list[str]:
    """Return a line about what Git does not know in the package, which moves along.

    Raises:
        ConfigError: if something is where it would go.
    """
    old, new = _packages(before, after)
    paths = unknown(project, old, tracked)
    if taken := [f"{new}/{path}" for path in paths if os.path.lexists(project / new / path)]:
        raise ConfigError(
            f"files of {old} that Git does not know cannot move along: something is there already",
            expected="no such files",
            got=shown(taken),
            next_step="move them away, or delete them",
        )
    return [f"{old}: what Git does not know moves along: {shown(paths)}"] if paths else []


def _edited(contents: Mapping[str, Tracked], texts: Mapping[str, str]) -> dict[str, Tracked]:
    return {path: replace(contents[path], content=text.encode()) for path, text in texts.items()}


def _tidied(
    contents: dict[str, Tracked], original: Mapping[str, Tracked]
) -> tuple[dict[str, Tracked], tuple[str, ...]]:
    changed = {path for path, file in contents.items() if file != original[path] and not file.is_link}
    new = tidied({path: file.content for path, file in contents.items() if not file.is_link}, changed)
    tidy = contents | {path: replace(contents[path], content=content) for path, content in new.items()}
    said = (f"{PROJECT_FILE}: {LONG_LINES}",) if LONG_LINES in tidy[PROJECT_FILE].content.decode() else ()
    return tidy, said


def _relocked(contents: dict[str, Tracked], original: Mapping[str, Tracked]) -> dict[str, Tracked]:
    before = {path: file.content for path, file in original.items() if not file.is_link}
    after = {path: file.content for path, file in contents.items() if not file.is_link}
    locks = [path for path in after if Path(path).name == LOCK]
    new = {path: relocked(after[path].decode(), before, after).encode() for path in locks}
    return contents | {path: replace(contents[path], content=content) for path, content in new.items()}


def refuse_taken(files: Mapping[str, Tracked], after: Naming) -> None:
    """Refuse a name that the project uses for something else: nothing could tell the two apart afterwards.

    Code in documents does not count: names in examples are somebody's.

    Raises:
        ConfigError: naming the places.
    """
    places = []
    for path, file in files.items():
        text = "" if is_left(path) or Path(path).name == ".gitignore" else _text(file) or ""
        # A line for a line, so that the numbers stay.
        plain = _CODE.sub(lambda code: "\n" * code[0].count("\n"), text) if path.endswith(".md") else text
        places += [f"{path}:{number}" for number, line in enumerate(plain.split("\n"), 1) if occurrences(line, after)]
        places += [path] * bool(occurrences(path, after))
    if places:
        raise ConfigError(
            f"{after.program!r} cannot be the project's name: it is in the project already, for something else",
            expected="a word that could be renamed again",
            got=shown(places),
            next_step="give another --name, such as one of two words with a hyphen",
        )


def _not_committed(paths: list[str]) -> ConfigError:
    return ConfigError(
        "a rename needs a clone without changes, so that it can be looked through and undone",
        expected="nothing in git status",
        got=shown(paths),
        next_step="commit them, or git stash --include-untracked; an interrupted rename goes on with its options",
    )


def _text(file: Tracked) -> str | None:
    """Return the text of a file; None if it is none."""
    if file.is_link or b"\0" in file.content:
        return None
    try:
        return file.content.decode()
    except UnicodeDecodeError:
        return None


def _read(project: Path, name: str) -> str:
    try:
        return (project / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} cannot be read", got=str(error), next_step=f"git checkout {name}") from error
