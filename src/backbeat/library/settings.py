"""`configs/library.yaml` as typed values: where samples are, and the rules by which they are kept in order."""

from __future__ import annotations

import datetime as dt
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from backbeat.config import Strict, load_yaml, validated
from backbeat.errors import ConfigError

LIBRARY_FILE = "configs/library.yaml"

# What the stages make and what people add: all of the library but the samples themselves.
LIBRARY_FOLDER = "data/library"

# Made by the program where a source says `generate`.
GENERATED_FOLDER = "data/library/generated"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Share = Annotated[float, Field(ge=0, le=1)]

# YAML has binary numbers only; what is written there is meant to the last digit.
Dollars = Annotated[
    Decimal,
    BeforeValidator(lambda value: Decimal(str(value)) if type(value) in {int, float} else value),
    Field(ge=0, allow_inf_nan=False),
]

# Lists are what YAML has; a tuple is what cannot change.
_as_tuple = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


class Source(Strict):
    """Where samples come from: a folder or an archive that is read in place, or the generator.

    Args:
        name: the first part of the name of each of its samples.
        path: a folder, or a zip or tar; relative to the repository, or with `~` and `${VARIABLE}` of the environment,
            since a tracked file names no place of one machine.
        generate: so many samples made by the program instead (`backbeat.library.generated`).
        url: where it was had, for the catalog.
        license: its license, as SPDX or in the publisher's words; null where it is not known.
    """

    name: Name
    path: str | None = None
    generate: Annotated[int, Field(ge=1, le=100_000)] | None = None
    url: str | None = None
    license: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if (self.path is None) == (self.generate is None):
            raise ValueError("a source has either `path` or `generate`")
        return self

    def place(self, project: Path) -> Path:
        """Return where it is on this machine.

        Raises:
            ConfigError: if it names a variable that the environment does not have.
        """
        if self.path is None:
            return project / GENERATED_FOLDER / f"{self.name}-{self.generate}"
        unset = [name for name in re.findall(r"\$\{(\w+)\}", self.path) if name not in os.environ]
        if unset:
            raise ConfigError(
                f"the source {self.name} is in {self.path}",
                expected=f"{unset[0]} in the environment",
                got="no such variable",
                next_step=f"export {unset[0]}=…, or put it into .env",
            )
        return project / Path(os.path.expandvars(self.path)).expanduser()


class ScanSettings(Strict):
    """What counts as clipped and as silent."""

    clip_run_samples: Annotated[int, Field(ge=1)]
    silent_below_db: Annotated[float, Field(le=0)]


class DescribeSettings(Strict):
    """Bounds of describing one sample."""

    timeout_s: Annotated[float, Field(gt=0)]
    longest_s: Annotated[float, Field(gt=0)]


class WordThresholds(Strict):
    """From where on a sound is called dark or bright, thin or heavy, soft or punchy."""

    dark_below_hz: Annotated[float, Field(gt=0)]
    bright_above_hz: Annotated[float, Field(gt=0)]
    thin_below_share: Share
    heavy_above_share: Share
    soft_below_crest_db: Annotated[float, Field(ge=0)]
    soft_attack_s: Annotated[float, Field(ge=0)]
    punchy_above_crest_db: Annotated[float, Field(ge=0)]
    punchy_attack_s: Annotated[float, Field(ge=0)]


KeeperRule = Literal[
    "bit_depth", "sample_rate_hz", "sounding_s", "unclipped", "starts_at_once", "louder", "uncompressed", "path"
]


class DuplicateSettings(Strict):
    """From which resemblance on two samples are one sound, or one recording; and which of them is kept."""

    candidate_similarity: Share
    candidates: Annotated[int, Field(ge=1, le=100)]
    same_correlation: Share
    same_detail: Share
    same_tilt_db: Annotated[float, Field(ge=0)]
    near_detail: Share
    common_energy: Share
    keeper: Annotated[tuple[KeeperRule, ...], _as_tuple]


class ModelPrice(Strict):
    """What a model costs, in US dollars per million tokens."""

    input_usd_per_million: Dollars
    output_usd_per_million: Dollars


class VibePrices(Strict):
    """A price list with its date; a model that is not in it is not asked."""

    as_of: dt.date
    source: str
    models: dict[str, ModelPrice]


class VibeSettings(Strict):
    """Which language model is asked for words, how, and what it may cost."""

    base_url: Annotated[str, Field(pattern=r"^https?://")]
    key_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    model: Annotated[str, Field(min_length=1)]
    sounds_per_request: Annotated[int, Field(ge=1, le=100)]
    output_tokens_per_sound: Annotated[int, Field(ge=20, le=2_000)]
    parallel: Annotated[int, Field(ge=1, le=64)]
    requests_per_minute: Annotated[float, Field(gt=0, le=60_000)]
    timeout_s: Annotated[float, Field(gt=0)]
    tries: Annotated[int, Field(ge=1, le=20)]
    longest_wait_s: Annotated[float, Field(gt=0)]
    usd_per_run: Dollars
    usd_per_day: Dollars
    prices: VibePrices


class Feed(Strict):
    """Where new packs are announced: RSS, Atom or JSON Feed."""

    name: Name
    url: Annotated[str, Field(pattern=r"^https?://[^/@]+/")]


class DiscoverSettings(Strict):
    """Which feeds are read, and what becomes a draft."""

    feeds: Annotated[tuple[Feed, ...], _as_tuple]
    largest_gb: Annotated[float, Field(gt=0)]
    largest_feed_mb: Annotated[float, Field(gt=0)]
    timeout_s: Annotated[float, Field(gt=0)]


class MaintainSettings(Strict):
    """How many backups of what cannot be computed again are kept."""

    backups_kept: Annotated[int, Field(ge=1, le=1_000)]


class QualityRule(Strict):
    """Points for a value: none at `bad`, all at `good`, in proportion between them, `missing` of them where it is null.

    Args:
        name: what its column in the table is called.
        column: the value: of the table scan or descriptors, or one that `backbeat.library.quality` derives.
        points: the most it can give.
        good: from here on it gives all points.
        bad: and here none; above `good` where less is better.
        missing: the share of the points where there is no value.
        only: the kind of sample that it is for; others have all points.
        vital: whether no other rule gives a larger share of its points than this one: what fails here is not made up
            for elsewhere.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    column: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
    points: Annotated[float, Field(gt=0, le=100)]
    good: float
    bad: float
    missing: Share
    only: Literal["one-shot", "loop"] | None = None
    vital: bool = False

    @model_validator(mode="after")
    def _a_ramp(self) -> QualityRule:
        if self.good == self.bad:
            raise ValueError("good and bad are equal: there is nothing between them")
        return self


class Device(Strict):
    """What the sampler that production is for can load; `source` says who says so."""

    sample_rate_hz: Annotated[int, Field(ge=8_000, le=192_000)]
    name_characters: Annotated[int, Field(ge=12, le=200)]
    longest_s: Annotated[float, Field(gt=0)]
    too_long: Literal["cut", "leave-out"]
    fade_s: Annotated[float, Field(ge=0, le=10)]
    files_per_folder: Annotated[int, Field(ge=1)] | None
    ceiling_db: Annotated[float, Field(ge=-20, le=0)]
    source: Annotated[str, Field(min_length=1)]


class CurateSettings(Strict):
    """What is good enough, how different, how many, and for which device."""

    threshold: Annotated[float, Field(ge=0, le=100)]
    least_distance: Annotated[float, Field(ge=0, le=2)]
    quota: dict[str, Annotated[int, Field(ge=0)]]
    sensible_s: dict[str, Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], _as_tuple]]
    device: str
    devices: dict[str, Device]
    rules: Annotated[tuple[QualityRule, ...], _as_tuple]

    @model_validator(mode="after")
    def _fits_together(self) -> CurateSettings:
        points = sum(rule.points for rule in self.rules)
        if abs(points - 100) > 1e-6:
            raise ValueError(f"the points of the rules sum to {points:g}, not 100")
        if len({rule.name for rule in self.rules}) < len(self.rules):
            raise ValueError("two rules have the same name")
        if self.device not in self.devices:
            raise ValueError(f"the device {self.device} is not among devices")
        for name in ("quota", "sensible_s"):
            if "default" not in getattr(self, name):
                raise ValueError(f"{name} has no `default`")
        return self


class ArchiveSettings(Strict):
    """Which originals become FLAC files: those whose sound is not in production, or all."""

    what: Literal["rest", "all"]


class LibrarySettings(Strict):
    """All of `configs/library.yaml`."""

    sources: Annotated[tuple[Source, ...], _as_tuple, Field(min_length=1)]
    scan: ScanSettings
    describe: DescribeSettings
    words: WordThresholds
    duplicates: DuplicateSettings
    vibe: VibeSettings
    discover: DiscoverSettings
    maintain: MaintainSettings
    curate: CurateSettings
    archive: ArchiveSettings

    @model_validator(mode="after")
    def _names_differ(self) -> LibrarySettings:
        names = [source.name for source in self.sources]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two sources are called {min(twice)}")
        return self


def load_settings(project: Path) -> LibrarySettings:
    """Load and check `configs/library.yaml`.

    Raises:
        ConfigError: if it is missing, not YAML, or has a wrong key, type or unit.
    """
    values: Any = load_yaml(project / LIBRARY_FILE)
    return validated(LibrarySettings, values, LIBRARY_FILE)


Tier = Literal["original", "archive"]
