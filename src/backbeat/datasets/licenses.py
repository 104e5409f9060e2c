"""Attribution: what to say, and what to keep to, when data or a model made from it goes out of the house.

What a license asks is read off its identifier and off what the record says about commercial use and redistribution;
the record's note has what neither can express. This is a reading aid and no legal advice: the license itself counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backbeat.datasets.registry import PER_ITEM, UNKNOWN, License, Record, load_record, load_registry
from backbeat.datasets.status import presence

Asks = Literal["credit", "share alike", "non-commercial", "no redistribution", "look at each item"]

_SENTENCES: dict[Asks, str] = {
    "credit": "Give credit, with this citation and a link to the license, and say what was changed.",
    "share alike": "Hand on what is made from it under the same license only.",
    "non-commercial": "Do not use it commercially.",
    "no redistribution": "Do not hand on the data.",
    "look at each item": "Each item has a license of its own: look at those of the items that were used.",
}


@dataclass(frozen=True)
class Attribution:
    """What has to be said of one dataset, and what has to be kept to.

    Args:
        name: name of the record.
        title: what the dataset is called.
        citation: how to cite it; None if nobody has said.
        license_id: SPDX identifier, or `public-domain`, `per-item` or `unknown`.
        license_url: the text of the license, or the page that states it; None if there is none.
        homepage: where the dataset is described; None if nowhere.
        note: what else the record says of the license.
        asks: what the license asks.
        excluded: why the dataset is not fetched; None if it is.
    """

    name: str
    title: str
    citation: str | None
    license_id: str
    license_url: str | None
    homepage: str | None
    note: str | None
    asks: tuple[Asks, ...]
    excluded: str | None

    @property
    def text(self) -> str:
        """The paragraph to put beside what was made: title, citation, license, what it asks."""
        lines = [
            f"{self.title} ({self.name})",
            self.citation,
            self.homepage,
            f"License: {self.license_id}" + (f", {self.license_url}" if self.license_url else ""),
            self.note,
            *(_SENTENCES[ask] for ask in self.asks),
            f"Excluded from this project: {self.excluded}" if self.excluded else None,
        ]
        return "\n  ".join(line for line in lines if line)


def licenses(project: Path, names: Sequence[str] | None = None) -> list[Attribution]:
    """Return what has to be said of datasets, sorted by name.

    Args:
        project: root of the repository.
        names: these; default: every dataset that is here as a whole.

    Raises:
        ConfigError: if there is no such record or one is not valid.
        StorageError: if `project` has no staging store to look into.
    """
    if names is None:
        registry = load_registry(project).values()
        return [attribution(one) for one in registry if presence(project, one).state not in {"absent", "partial"}]
    return [attribution(load_record(project, name)) for name in sorted(set(names))]


def attribution(record: Record) -> Attribution:
    """Return what has to be said of one dataset."""
    return Attribution(
        name=record.name,
        title=record.title,
        citation=record.citation,
        license_id=record.license.id,
        license_url=record.license.url,
        homepage=record.homepage,
        note=record.license.note,
        asks=_asks(record.license, record.citation),
        excluded=record.excluded,
    )


def _asks(terms: License, citation: str | None) -> tuple[Asks, ...]:
    wanted: dict[Asks, bool] = {
        "credit": "-BY" in terms.id or (terms.id in {PER_ITEM, UNKNOWN} and citation is not None),
        "share alike": "-SA" in terms.id,
        "non-commercial": terms.commercial is False or terms.id == UNKNOWN,
        "no redistribution": not terms.redistribute,
        "look at each item": terms.id == PER_ITEM,
    }
    return tuple(ask for ask, is_asked in wanted.items() if is_asked)
