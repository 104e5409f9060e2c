"""A recipe: which sounds, how many kits, and how widely everything about them is drawn.

`configs/kits/*.yaml`. Every width is a number with its unit in its name; a draw is uniform in that unit. The same
recipe and the same sounds give the same archive.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from backbeat.config import Strict, load_yaml, validated
from backbeat.errors import ConfigError
from backbeat.rendering.sources import RelativePath, SoundLicense, Source

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Range(Strict):
    """What is drawn from, uniformly."""

    low: float
    high: float

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Part(Strict):
    """The kits of one role: how many are drawn, and what each plays, in minutes of each split."""

    kits: Annotated[int, Field(ge=0, le=2_000)]
    minutes: dict[Annotated[str, Field(pattern="^(train|validation|test)$")], Positive]


class KitDraws(Strict):
    """What makes one kit different from another.

    Attributes:
        other_source: probability that a group of pieces (kick, snare, toms, hats, ride, crashes) is of another source.
        synthesizer: the part of the kits that begin with the synthesizer.
        tuning_semitones: of each group.
        decay: ratio on the length of each group's sounds; above 1 is as they are.
        level_db: of each group, around a balance of a usual mix.
        velocity_power: amplitude is (velocity / 127) to this power.
        loose_hat: probability that closed hats sizzle like half-open ones.
        choke_s: how fast a closing hat stops an open one.
        wires_db: how loud the snare wires answer kick and toms.
    """

    other_source: Share
    synthesizer: Share
    tuning_semitones: Range
    decay: Range
    level_db: Range
    velocity_power: Range
    loose_hat: Share
    choke_s: Range
    wires_db: Range


class RecordingDraws(Strict):
    """What makes one recording of a kit different from another.

    Attributes:
        speed: of the playing, as a ratio; pitch stays, since kits are tuned anyway.
        close_db: close microphones against the overheads.
        distance_s: how much later the overheads hear each group.
        room: probability of a room at all.
        decay_s: of the room, to -60 dB.
        room_db: the room against the dry sound.
        tilt_db: equalizer, from the lowest to the highest octave.
        bells_db: three bells of an equalizer at random places.
        threshold_db: of the compressor, below the loudest passage; its ratio is 1 to `ratio`.
        ratio: of the compressor.
        drive_db: into a saturation.
        noise_db: noise floor against full scale.
        lossy: probability of a passage through MP3.
        low_pass: probability of a missing top, as of old tapes and small speakers.
        backing: probability that a band plays along.
        backing_db: the band against the drums, in loudness (RMS).
        level_db: peak of the result.
    """

    speed: Range
    close_db: Range
    distance_s: Range
    room: Share
    decay_s: Range
    room_db: Range
    tilt_db: Range
    bells_db: Range
    threshold_db: Range
    ratio: Range
    drive_db: Range
    noise_db: Range
    lossy: Share
    low_pass: Share
    backing: Share
    backing_db: Range
    level_db: Range


class Band(Strict):
    """Who plays along: the melodic programs of a SoundFont, and how many songs they know for the kits of each role."""

    file: RelativePath
    package: str
    license: SoundLicense
    songs: Annotated[int, Field(ge=1, le=1_000)]


class Recipe(Strict):
    """A whole recipe; its name is that of its file.

    Attributes:
        title: of the dataset that it makes.
        seed: of every draw.
        performances: the record that they come from.
        longest_s: performances are cut to this.
        parts: what the kits of each role play.
        kit: how kits differ.
        recording: how recordings differ.
        band: who plays along where `recording.backing` says so.
        sources: the sounds.
    """

    title: str
    seed: Annotated[int, Field(ge=0)]
    performances: str
    longest_s: Positive
    parts: dict[Annotated[str, Field(pattern="^(train|validation|test)$")], Part]
    kit: KitDraws
    recording: RecordingDraws
    band: Band | None = None
    sources: Annotated[list[Source], Field(min_length=1)]

    @model_validator(mode="after")
    def _holds_together(self) -> Recipe:
        if self.recording.backing and self.band is None:
            raise ValueError("recording.backing is above zero, and there is no band")
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError("two sources have one name")
        roles: dict[str, set[str]] = {}
        for source in self.sources:
            roles.setdefault(source.origin, set()).add(source.role)
        both = sorted(origin for origin, of in roles.items() if len(of) > 1)
        if both:
            raise ValueError(f"sounds of one origin are in two roles, so nothing is held out: {', '.join(both)}")
        empty = sorted(
            role for role, part in self.parts.items() if part.kits and role not in {s.role for s in self.sources}
        )
        if empty:
            raise ValueError(f"no source has the role {', '.join(empty)}")
        return self


def load_recipe(path: Path) -> Recipe:
    """Load a recipe.

    `sources: <file>` in it is the list of that file beside it. `like: <file>` takes what it does not say itself from
    another recipe: sections are merged key by key, `parts` is taken as it is.

    Raises:
        ConfigError: if it is missing or not valid.
    """
    values = _with_likes(path)
    if isinstance(values, dict) and isinstance(values.get("sources"), str):
        listed = load_yaml(path.parent / values["sources"])
        if not isinstance(listed, dict) or set(listed) != {"sources"}:
            raise ConfigError(
                f"{values['sources']} is no list of sources", expected="sources: [...]", got="another file"
            )
        values = {**values, **listed}
    return validated(Recipe, values, str(path))


def _with_likes(path: Path) -> Any:
    """Load a recipe with what it takes from others."""
    values = load_yaml(path)
    if not isinstance(values, dict) or not isinstance(values.get("like"), str):
        return values
    other = _with_likes(path.parent / values.pop("like"))
    sections = {name: {**other[name], **values[name]} for name in ("kit", "recording") if name in values}
    return {**other, **values, **sections}
