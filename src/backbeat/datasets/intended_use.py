"""What a dataset may be used for: asked before anything is made from it.

A license is a property of the data, an intention one of the project (`intended_use` in `params.yaml`). Where they do
not go together, the stages that make something of the data refuse before they read a byte of it. For commercial use
that a license does not speak of, the answer is no.
"""

from __future__ import annotations

from backbeat.config import IntendedUse
from backbeat.datasets.registry import PER_ITEM, RECORDS_FOLDER, Record
from backbeat.errors import ConfigError


def require_use(record: Record, intended_use: IntendedUse) -> None:
    """Refuse a dataset that the intended use has no right to.

    Args:
        record: the dataset.
        intended_use: what the results are for.

    Raises:
        ConfigError: if the dataset is excluded; or if the use is commercial and its license does not allow that for
            all of it.
    """
    if record.excluded:
        raise ConfigError(
            f"the dataset {record.name} is excluded from this project",
            expected="one that is not",
            got=record.excluded,
            next_step="set dataset in params.yaml to another one: backbeat datasets list",
        )
    if intended_use == "commercial" and record.license.commercial is not True:
        raise ConfigError(
            f"the dataset {record.name} {_why_not_commercial(record)}",
            expected="license.commercial: true, as params.yaml has intended_use: commercial",
            got=": ".join(filter(None, (record.license.id, record.license.note))),
            next_step="set dataset in params.yaml to another one (backbeat datasets list), or intended_use to "
            f"research; with a permission of your own, say so in {RECORDS_FOLDER}/{record.name}.yaml",
        )


def _why_not_commercial(record: Record) -> str:
    if record.license.commercial is False:
        return "may not be used commercially"
    if record.license.id == PER_ITEM:
        return "has a license for each item, and nobody has shown that all of them allow commercial use"
    return "has no license that speaks of commercial use"
