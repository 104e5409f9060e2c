"""Sources: who recorded which sounds, under which license, and where they lie.

A source is one entry of a list such as `configs/kits/sources.yaml`. What it is made of (a SoundFont, a kit of
Hydrogen, a folder of one-shots, the built-in synthesizer) ends here: `load_bank` makes a `Bank` of any of them.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from backbeat.config import Strict, find_project
from backbeat.drums.classes import Instrument, Pitch
from backbeat.errors import ConfigError
from backbeat.provenance import digest_of, file_digest
from backbeat.rendering.bank import Bank
from backbeat.rendering.folders import folder_bank
from backbeat.rendering.hydrogen import hydrogen_bank
from backbeat.rendering.soundfonts import NOTES, soundfont_bank
from backbeat.rendering.synthetic import synthetic_bank

# Where programs keep their data if the environment does not say (XDG Base Directory Specification).
_DATA_FOLDERS = "/usr/local/share:/usr/share"


def _relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError("a path is relative to the data folders of the system, or to the project, and stays inside")
    return path


RelativePath = Annotated[str, AfterValidator(_relative)]


def _pattern(pattern: str) -> str:
    if any("**" in part and part != "**" for part in PurePosixPath(pattern).parts):
        raise ValueError("** is a part of a path of its own, as in snare/**/*.wav")
    return _relative(pattern)


Patterns = Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], Field(strict=False)]


class SoundLicense(Strict):
    """What may be done with the sounds.

    Attributes:
        id: of SPDX, or `LicenseRef-...` where it has none.
        commercial: whether what is made with them may be sold.
        holder: of the copyright.
        url: where the license is said.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.+-]+( WITH [A-Za-z0-9.-]+)?$")]
    commercial: bool
    holder: Annotated[str, Field(min_length=1)]
    url: Annotated[str, Field(min_length=1)]


class SoundFont(Strict):
    """A kit of a SoundFont.

    Attributes:
        file: sf2 or sf3.
        bank: of the kit; on the drum channel it is bank 128, whatever this says.
        program: of the kit.
        drum_channel: whether the kit is where General MIDI has drums.
        notes: the notes of an instrument where they are not those of General MIDI; none to leave it out.
        only: the instruments to take, where the others are those of another program; empty for all.
    """

    file: RelativePath
    bank: Annotated[int, Field(ge=0, le=128)] = 0
    program: Annotated[int, Field(ge=0, le=127)] = 0
    drum_channel: bool = True
    notes: dict[Instrument, Annotated[tuple[Pitch, ...], Field(strict=False)]] = Field(default_factory=dict)
    only: Annotated[tuple[Instrument, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _only_what_has_notes(self) -> SoundFont:
        unknown = sorted(set(self.only) - set(NOTES) - set(self.notes))
        if unknown:
            raise ValueError(f"no notes are known for {', '.join(unknown)}")
        if self.bank == 128 and not self.drum_channel:
            raise ValueError("bank 128 is that of the drum channel: drum_channel: true")
        return self


class Hydrogen(Strict):
    """A kit of the drum machine Hydrogen.

    Attributes:
        folder: where its `drumkit.xml` is.
        instruments: names in the kit to instruments of `configs/drums.yaml`; what is not named is not used.
        leave_out: patterns of file names that are not used.
    """

    folder: RelativePath
    instruments: Annotated[dict[str, Instrument], Field(min_length=1)]
    leave_out: Patterns = ()


class Folder(Strict):
    """One-shots in a folder; also the production set of the sample library.

    Attributes:
        folder: where they are.
        files: by instrument, the patterns of their paths in it.
        velocity: a regular expression with one group, which finds the number or word of force in a file's name in
            lower case; empty if names say nothing of it. Without it: v1, v2, ... and soft, medium, hard.
        leave_out: patterns of file names that are not used.
    """

    folder: RelativePath
    files: Annotated[dict[Instrument, Patterns], Field(min_length=1)]
    velocity: str | None = None
    leave_out: Patterns = ()


class Synthesizer(Strict):
    """A random kit of the built-in synthesizer; another one for each seed."""


class Source(Strict):
    """Where sounds are from; exactly one of the last four says what it is.

    Attributes:
        name: of the source.
        origin: who recorded the sounds. What is of one origin has one role.
        role: what its kits are for.
        license: what may be done with them.
        weight: how often kits are made of it, against the others.
        package: of Debian, that carries it; none if it is part of this project.
    """

    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]  # a line of the license, a cell of the table
    origin: Annotated[str, Field(min_length=1)]
    role: Literal["train", "validation", "test"]
    license: SoundLicense
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    package: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]+$")] | None = None
    soundfont: SoundFont | None = None
    hydrogen: Hydrogen | None = None
    folder: Folder | None = None
    synthesizer: Synthesizer | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Source:
        kinds = [self.soundfont, self.hydrogen, self.folder, self.synthesizer]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("a source is exactly one of soundfont, hydrogen, folder, synthesizer")
        return self


def load_bank(source: Source, seed: int) -> Bank:
    """Return the sounds of a source.

    Args:
        source: what to load.
        seed: of a synthesizer's kit; sounds from files are the same for every seed.

    Raises:
        ConfigError: if its files, or a program that is needed to read them, are missing, or do not hold what the
            source says.
        AudioError: if a file cannot be decoded.
    """
    if source.soundfont is not None:
        font = source.soundfont
        found = located(font.file, source.package)
        channel_bank = None if font.drum_channel else font.bank
        shots = soundfont_bank(found, font.program, channel_bank, _notes(font))
    elif source.hydrogen is not None:
        kit = source.hydrogen
        shots = hydrogen_bank(located(kit.folder, source.package), kit.instruments, kit.leave_out)
    elif source.folder is not None:
        one = source.folder
        shots = folder_bank(located(one.folder, source.package), one.files, one.velocity, one.leave_out)
    else:
        shots = synthetic_bank(seed)
    if not shots:
        raise ConfigError(f"the source {source.name} has no sounds", expected="at least one", got="silence")
    return Bank(source.name, {name: tuple(sorted(shots[name], key=lambda shot: shot.force)) for name in sorted(shots)})


def _notes(font: SoundFont) -> dict[str, tuple[int, ...]]:
    notes = {**NOTES, **font.notes}
    return {name: notes[name] for name in (font.only or notes)}


def located(relative: str, package: str | None) -> Path:
    """Return where a file or folder is: in the project, or in the first of the system's data folders that has it.

    Args:
        relative: to either.
        package: of Debian, that carries it, for the message.

    Raises:
        ConfigError: if it is nowhere.
    """
    for folder in _data_folders():
        if (folder / relative).exists():
            return folder / relative
    raise ConfigError(
        f"{relative} is not here",
        expected="the sounds that a recipe lists",
        got=f"nothing of that name in {', '.join(map(str, _data_folders()))}",
        next_step=f"apt-get install {package}" if package else "put it there, or drop the source",
    )


def _data_folders() -> list[Path]:
    try:
        project = [find_project()]
    except ConfigError:
        project = []
    # The specification: what is not absolute is to be ignored.
    listed = os.environ.get("XDG_DATA_DIRS") or _DATA_FOLDERS
    return project + [Path(folder) for folder in listed.split(":") if folder.startswith("/")]


def source_digest(source: Source) -> str:
    """Return a digest of what is heard of a source: how it is read, and every name and byte of its files.

    Who made it, under which license, for what and how often is not heard.

    Raises:
        ConfigError: if its files are missing.
    """
    heard = source.model_dump(include={"soundfont", "hydrogen", "folder", "synthesizer"})
    kind = source.soundfont or source.hydrogen or source.folder
    if kind is None:
        return digest_of(heard)
    found = located(kind.file if isinstance(kind, SoundFont) else kind.folder, source.package)
    files = [found] if found.is_file() else sorted(path for path in found.rglob("*") if path.is_file())
    return digest_of([heard, [[file.relative_to(found).as_posix(), file_digest(file)] for file in files]])
