"""What to ask for, over HTTP, to get what an address of a record stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Address:
    """An HTTP address and the headers to send to it (and only to its host: they may hold a token)."""

    url: str
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def resolve(url: str) -> Address:
    """Return what to ask for to get the bytes of an `http:`, `https:`, `hf:`, `gdrive:` or `zenodo:` address."""
    return Address(url)
