"""What somebody chooses for a project's bucket, and which choices no service would take."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from backbeat.errors import ConfigError
from backbeat.remote.settings import LOOPBACK_HOSTS, PLACEHOLDER_BUCKET

_B2_REGION = re.compile(r"[a-z]{2}-[a-z]+-[0-9]{3}")
_B2_HOST = re.compile(r"s3\.([a-z0-9-]+)\.backblazeb2\.com")

# Backblaze's rule, with the capitals left out that S3 does not know; and the rule of S3 for everybody else.
_B2_BUCKET = re.compile(r"(?!b2-)[a-z0-9][a-z0-9-]{4,61}[a-z0-9]")
_S3_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Choices:
    """What somebody chooses for a project.

    Args:
        name: the project's, which is its folder in the bucket: several projects can share one bucket.
        bucket: the bucket.
        region: its region.
        endpoint_url: the address of the S3 service.
        budget_usd: what a month may cost, in US dollars; None is no limit.
    """

    name: str
    bucket: str
    region: str
    endpoint_url: str
    budget_usd: float | None


def choose(
    now: Choices,
    *,
    name: str | None = None,
    bucket: str | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    budget_usd: float | None = None,
) -> Choices:
    """Return choices in which what is not given stays; region and endpoint, where they are Backblaze's, go together."""
    host = _B2_HOST.fullmatch(urlsplit(endpoint_url or "").hostname or "")
    region = region or (host[1] if host else now.region)
    if endpoint_url is None:
        # Only a change of region leads to Backblaze: a rehearsal, or a service of one's own, stays what it is.
        stays = region == now.region or not _B2_REGION.fullmatch(region)
        is_b2 = _B2_HOST.fullmatch(urlsplit(now.endpoint_url).hostname or "") is not None
        endpoint_url = now.endpoint_url if stays and not is_b2 else f"https://s3.{region}.backblazeb2.com"
    return Choices(
        name=name or now.name,
        bucket=bucket or now.bucket,
        region=region,
        endpoint_url=endpoint_url.rstrip("/"),
        budget_usd=now.budget_usd if budget_usd is None else budget_usd,
    )


def check(choices: Choices) -> None:
    """Refuse what no service would take, before anything is written.

    Raises:
        ConfigError: naming the choice, the rule and the option.
    """
    address = urlsplit(choices.endpoint_url)
    host = _B2_HOST.fullmatch(address.hostname or "")
    loopback = address.hostname in LOOPBACK_HOSTS
    _require(
        address.scheme in {"http", "https"} and bool(address.hostname) and not (address.path or address.query)
        and "@" not in address.netloc,
        "the endpoint", "https://HOST, or http://127.0.0.1:PORT for a rehearsal", choices.endpoint_url, "--endpoint",
    )  # fmt: skip
    if host or (address.hostname or "").endswith(".backblazeb2.com"):
        _require(
            _B2_REGION.fullmatch(choices.region) is not None, "the region",
            "Backblaze's, as the bucket's page says it: us-west-004, eu-central-003", choices.region, "--region",
        )  # fmt: skip
        _require(
            host is not None and host[1] == choices.region, "the region",
            f"that of the endpoint {choices.endpoint_url}", choices.region, "--region or --endpoint",
        )  # fmt: skip
        rule, letters = _B2_BUCKET, "6 to 63 lower-case letters, digits and hyphens, not beginning with b2-"
    else:
        _require(
            _REGION.fullmatch(choices.region) is not None, "the region", "one word, such as us-east-1",
            choices.region, "--region",
        )  # fmt: skip
        rule, letters = _S3_BUCKET, "3 to 63 lower-case letters, digits, hyphens and dots"
    _require(rule.fullmatch(choices.bucket) is not None, "the bucket's name", letters, choices.bucket, "--bucket")
    _require(
        choices.bucket != PLACEHOLDER_BUCKET or loopback, "the bucket's name", "that of a bucket of yours",
        f"the template's {choices.bucket}", "--bucket or B2_BUCKET_NAME",
    )  # fmt: skip
    _require(
        _NAME.fullmatch(choices.name) is not None, "the project's name",
        "up to 63 lower-case letters, digits, dots, hyphens and underscores", choices.name, "--name",
    )  # fmt: skip
    check_budget(choices.budget_usd)


def check_budget(budget_usd: float | None) -> None:
    """Refuse what is no amount of money.

    Raises:
        ConfigError: naming the rule and the option.
    """
    _require(
        budget_usd is None or (math.isfinite(budget_usd) and budget_usd >= 0), "the budget",
        "0 or more dollars a month", f"{budget_usd}", "--budget-usd",
    )  # fmt: skip


def _require(right: bool, what: str, expected: str, got: str, option: str) -> None:
    if not right:
        raise ConfigError(
            f"{what} cannot be right", expected=expected, got=got or "nothing", next_step=f"give {option}"
        )
