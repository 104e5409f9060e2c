"""Which datasets are meant: by name, by phase, by collection, within a limit of storage and of licenses.

- A phase holds what its own records say and the phases before it: minimal < balanced < comprehensive.
- A collection holds its required members; its optional ones only when asked for.
- What is taken first under a limit: higher priority, then required before optional, then the earlier phase, then the
  name. Each dataset that still fits is taken, so that a large one that does not fit leaves its room to the next.
- Nothing is left out in silence: each of those has a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backbeat.datasets.registry import PHASES, Phase, Record, require_known
from backbeat.errors import ConfigError


@dataclass(frozen=True)
class LeftOut:
    """A dataset that was asked for in general and is not taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """What was chosen, in the order of fetching, and what was not."""

    records: tuple[Record, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the chosen datasets."""
        return tuple(record.name for record in self.records)


@dataclass(frozen=True)
class Wish:
    """What somebody asks for; the empty wish asks for nothing.

    Args:
        names: datasets by name.
        phase: this phase and those before it.
        collection: a named collection.
        with_optional: whether the optional members of the collection are meant, too.
        max_storage_bytes: what all of it together may take.
        commercial_only: whether only data is wanted whose license allows commercial use of all of it.
    """

    names: tuple[str, ...] = ()
    phase: Phase | None = None
    collection: str | None = None
    with_optional: bool = False
    max_storage_bytes: int | None = None
    commercial_only: bool = False


def select(registry: Mapping[str, Record], wish: Wish) -> Selection:
    """Return what a wish means in this registry.

    Raises:
        ConfigError: if a name, or the collection, does not exist, or a dataset asked for by name is excluded.
    """
    wanted = {name: _named(registry, name) for name in wish.names}
    if wish.phase is not None:
        wanted |= _of_phase(registry, wish.phase)
    if wish.collection is not None:
        wanted |= _of_collection(registry, wish.collection, wish.with_optional)
    left_out: list[LeftOut] = []
    chosen: list[Record] = []
    free_bytes = wish.max_storage_bytes
    for record in sorted(wanted.values(), key=lambda record: _order(record, wish.collection)):
        reason = _reason_against(record, wish, free_bytes)
        if reason is not None:
            left_out.append(LeftOut(record.name, reason))
            continue
        chosen.append(record)
        if free_bytes is not None:
            free_bytes -= record.expected_bytes or 0
    return Selection(tuple(chosen), tuple(left_out))


def collections_of(registry: Mapping[str, Record]) -> list[str]:
    """Return the names of all collections, sorted."""
    return sorted({name for record in registry.values() for name in record.collections})


def refuse_excluded(record: Record) -> None:
    """Raise a ConfigError for a dataset that is in the registry only to say why it is not used."""
    if record.excluded is not None:
        raise ConfigError(
            f"{record.name} is excluded: {record.excluded}",
            expected="a dataset that may be fetched",
            got=f"license {record.license.id}",
            next_step="choose another one: backbeat datasets list",
        )


def _named(registry: Mapping[str, Record], name: str) -> Record:
    require_known(name, registry)
    record = registry[name]
    refuse_excluded(record)
    return record


def _of_phase(registry: Mapping[str, Record], phase: Phase) -> dict[str, Record]:
    meant = PHASES[: PHASES.index(phase) + 1]
    return {name: record for name, record in registry.items() if record.phase in meant and record.excluded is None}


def _of_collection(registry: Mapping[str, Record], collection: str, with_optional: bool) -> dict[str, Record]:
    known = collections_of(registry)
    if collection not in known:
        raise ConfigError(
            f"there is no collection {collection}",
            expected=f"one of {', '.join(known) or '(none has been named yet)'}",
            next_step="backbeat datasets list, or name it in the collections of a record",
        )
    meant = {"required", "optional"} if with_optional else {"required"}
    return {
        name: record
        for name, record in registry.items()
        if record.collections.get(collection) in meant and record.excluded is None
    }


def _order(record: Record, collection: str | None) -> tuple[int, bool, int, str]:
    optional = record.collections.get(collection or "") == "optional"
    phase = PHASES.index(record.phase) if record.phase is not None else len(PHASES)
    return -record.priority, optional, phase, record.name


def _reason_against(record: Record, wish: Wish, free_bytes: int | None) -> str | None:
    if wish.commercial_only and record.license.commercial is not True:
        if record.license.commercial is False:
            return f"not for commercial use: {record.license.id}"
        return f"not known to be for commercial use, all of it: its license is {record.license.id}"
    if free_bytes is None:
        return None
    if record.expected_bytes is None:
        return "its size is not known, so it cannot be counted; ask for it by name, without a limit"
    if record.expected_bytes > free_bytes:
        return f"{record.expected_bytes:,} bytes, and {free_bytes:,} are left of the limit"
    return None
