"""What an announcement says of its pack: which license it mentions, how large it is, where the file is.

All of it is a hint. Where an archive is linked, its server is asked for the size (HEAD), but no server that a
stranger's link or redirect could mean on this machine or in its network: every host on the way must have public
addresses only.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests

from backbeat.datasets.transport.web import content_length, host_slot, new_session
from backbeat.library.feeds import USER_AGENT, Entry

ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")

MOST_REDIRECTS = 5

_LICENSES = {
    "CC0": r"\bcc[- ]?0\b|\bpublic domain\b|creativecommons\.org/publicdomain/zero",
    "CC BY-NC": r"\bcc[- ]by[- ]nc|non-?commercial use only|personal use only|no commercial use",
    "CC BY-SA": r"\bcc[- ]by[- ]sa",
    "CC BY": r"\bcc[- ]by\b(?![- ](?:nc|nd|sa))|creative commons attribution(?! non)",
    "royalty-free": r"\broyalty[- ]?free\b",
    "free for commercial use": r"free (?:for|to use (?:for|in)) commercial|commercial use (?:is )?(?:allowed|ok|okay)",
}
_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _LICENSES.items()}

_SIZE = re.compile(r"\b(\d{1,4}(?:[.,]\d{1,2})?) ?(gb|gib|gigs?|gigabytes?|mb|mib|megs?|megabytes?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Pack:
    """What is announced, with its hints.

    Args:
        feed: the name of the feed.
        entry: the announcement.
        license_hints: which licenses its text mentions, in the order of `_LICENSES`.
        file_url: an archive that it links.
        said_bytes: the largest size in its text.
        file_bytes: the size of the archive as its server says it.
    """

    feed: str
    entry: Entry
    license_hints: tuple[str, ...]
    file_url: str | None
    said_bytes: int | None
    file_bytes: int | None = None

    @property
    def size_bytes(self) -> int | None:
        """What is known of the size; the server is believed first."""
        return self.file_bytes if self.file_bytes is not None else self.said_bytes


def pack_of(feed: str, entry: Entry) -> Pack:
    """Return what an announcement says of its pack; nobody is asked."""
    text = " ".join([entry.title, entry.text, *entry.links])
    sizes = [_bytes(amount, unit) for amount, unit in _SIZE.findall(f"{entry.title} {entry.text}")]
    return Pack(
        feed,
        entry,
        tuple(name for name, pattern in _PATTERNS.items() if pattern.search(text)),
        next((link for link in entry.links if urlsplit(link).path.lower().endswith(ARCHIVES)), None),
        max(sizes, default=None),
    )


def ask_size(url: str, timeout_s: float) -> int | None:
    """Return the size that the server of an address states; None if it does not, or is none of the public network."""
    try:
        with new_session() as session:
            session.headers["User-Agent"] = USER_AGENT
            for _ in range(MOST_REDIRECTS + 1):
                parts = urlsplit(url)
                if parts.scheme not in {"http", "https"} or not is_public(parts.hostname or ""):
                    return None
                with host_slot(url), session.head(url, timeout=timeout_s, allow_redirects=False) as answer:
                    if answer.is_redirect:
                        url = urljoin(url, answer.headers["Location"])
                    else:
                        return content_length(answer) if answer.status_code == 200 else None
    # ValueError: an address that is none.
    except (requests.RequestException, OSError, ValueError):
        return None
    return None


def is_public(host: str) -> bool:
    """Return whether a name means addresses of the public network only."""
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)}
        addresses = [ipaddress.ip_address(address) for address in found]
    except (OSError, ValueError):
        return False
    inner = [getattr(address, "ipv4_mapped", None) or address for address in addresses]
    return bool(inner) and all(address.is_global and not address.is_multicast for address in inner)


def _bytes(amount: str, unit: str) -> int:
    exponent = 3 if unit[0] in "gG" else 2
    base = 1_024 if unit.lower().endswith("ib") else 1_000
    return int(float(amount.replace(",", ".")) * base**exponent)
