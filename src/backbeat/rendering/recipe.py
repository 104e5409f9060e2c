"""A recipe: which sounds, how many kits, and how widely everything about them is drawn.

`configs/kits/*.yaml`. Every width is a number with its unit in its name; a draw is uniform in that unit. The same
recipe and the same sounds give the same archive.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from backbeat.config import Strict, load_yaml, validated
from backbeat.errors import ConfigError
from backbeat.rendering.sources import RelativePath, SoundLicense, Source

Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Role = Annotated[str, Field(pattern="^(train|validation|test)$")]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Range(Strict):
    """What is drawn from, uniformly."""

    low: Number
    high: Number

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


def _within(lowest: float, highest: float) -> AfterValidator:
    """Refuse what no studio has: much of it would be silence, a division by zero, or a recording without an end."""

    def checked(width: Range) -> Range:
        if width.low < lowest or width.high > highest:
            raise ValueError(f"low and high must be from {lowest:g} to {highest:g}")
        return width

    return AfterValidator(checked)


class Part(Strict):
    """The kits of one role: how many are drawn, and what each plays, in minutes of each split."""

    kits: Annotated[int, Field(ge=1, le=2_000)]
    minutes: Annotated[dict[Role, Annotated[float, Field(gt=0, le=10_000)]], Field(min_length=1)]


class KitDraws(Strict):
    """What makes one kit different from another.

    Attributes:
        other_source: probability that a group of pieces (kick, snare, toms, hats, ride, crashes) is of another source.
        synthesizer: the part of the kits that begin with the synthesizer.
        tuning_semitones: of each group.
        decay: ratio on the length of each group's sounds; above 1 is as they are.
        attack_db: of each group's own sounds, the first hundredths of a second against the rest.
        layered: probability that each group has sounds of another source laid over its own.
        layer_db: their peak against that of what is below.
        level_db: of each group, around a balance of a usual mix.
        velocity_power: amplitude is (velocity / 127) to this power.
        loose_hat: probability that closed hats sizzle like half-open ones.
        choke_s: how fast a closing hat stops an open one.
        wires_db: how loud the snare wires answer kick and toms.
    """

    other_source: Share
    synthesizer: Share
    tuning_semitones: Annotated[Range, _within(-24, 24)]
    decay: Annotated[Range, _within(0.01, 10)]
    attack_db: Annotated[Range, _within(-12, 12)]
    layered: Share
    layer_db: Annotated[Range, _within(-60, 0)]
    level_db: Annotated[Range, _within(-60, 60)]
    velocity_power: Annotated[Range, _within(0, 10)]
    loose_hat: Share
    choke_s: Annotated[Range, _within(0.0001, 10)]
    wires_db: Annotated[Range, _within(-200, 40)]


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

    speed: Annotated[Range, _within(0.25, 4)]
    close_db: Annotated[Range, _within(-60, 60)]
    distance_s: Annotated[Range, _within(0, 0.5)]
    room: Share
    decay_s: Annotated[Range, _within(0.01, 20)]
    room_db: Annotated[Range, _within(-200, 60)]
    tilt_db: Annotated[Range, _within(-60, 60)]
    bells_db: Annotated[Range, _within(-60, 60)]
    threshold_db: Annotated[Range, _within(-100, 0)]
    ratio: Annotated[Range, _within(1, 100)]
    drive_db: Annotated[Range, _within(-100, 60)]
    noise_db: Annotated[Range, _within(-200, 0)]
    lossy: Share
    low_pass: Share
    backing: Share
    backing_db: Annotated[Range, _within(-100, 60)]
    level_db: Annotated[Range, _within(-100, 0)]


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

    title: Text
    seed: Annotated[int, Field(ge=0, lt=2**64)]
    performances: Text
    longest_s: Annotated[float, Field(gt=0, le=3_600)]
    parts: Annotated[dict[Role, Part], Field(min_length=1)]
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
        empty = sorted(set(self.parts) - {source.role for source in self.sources})
        if empty:
            raise ValueError(f"no source has the role {', '.join(empty)}")
        return self


def load_recipe(path: Path) -> Recipe:
    """Load a recipe.

    `sources: <file>` in it is the list of that file. `like: <file>` takes what it does not say itself from another
    recipe: the sections `kit` and `recording` are merged key by key, everything else is taken as it is. Both are
    relative to the folder of the recipe that says so.

    Raises:
        ConfigError: if it, or a file that it names, is missing or not valid, or it is like itself.
    """
    if not path.is_file():
        step = "name one, as configs/kits/rendered-kits.yaml in a clone"
        raise ConfigError(f"there is no recipe {path}", expected="a file", got="none", next_step=step)
    values = _with_likes(path, ())
    if isinstance(values.get("sources"), str):
        listed = load_yaml(Path(values["sources"]))
        if not isinstance(listed, dict) or set(listed) != {"sources"}:
            raise ConfigError(
                f"{values['sources']} is no list of sources", expected="sources: [...], and no other key",
                got=_short(listed), next_step="name another file",
            )  # fmt: skip
        values = {**values, **listed}
    return validated(Recipe, values, str(path))


def _with_likes(path: Path, before: tuple[Path, ...]) -> dict[str, Any]:
    """Load a recipe with what it takes from others; those that lead to it are `before`."""
    chain = (*before, path.resolve())
    if chain[-1] in before:
        raise ConfigError(
            f"{path} is like itself",
            expected="a recipe that is like another one, which is not like it",
            got=" is like ".join(one.name for one in chain),
            next_step="take `like` out of one of them",
        )
    values = load_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is no recipe", expected="keys and values", got=_short(values))
    if isinstance(values.get("sources"), str):
        # Whoever is like this recipe may be in another folder.
        values["sources"] = str(path.parent / values["sources"])
    if "like" not in values:
        return values
    like = values.pop("like")
    if not isinstance(like, str) or not (path.parent / like).is_file():
        raise ConfigError(
            f"{path} is like a recipe that is not there",
            expected=f"a file, relative to {path.parent}",
            got=f"like: {like}",
            next_step="correct it",
        )
    other = _with_likes(path.parent / like, chain)
    sections = {
        name: {**other[name], **values[name]}
        for name in ("kit", "recording")
        if isinstance(values.get(name), dict) and isinstance(other.get(name), dict)
    }
    return {**other, **values, **sections}


def _short(values: object) -> str:
    """Return what a file holds instead, for a message."""
    return f"the keys {', '.join(map(str, values))}" if isinstance(values, dict) else type(values).__name__
