"""`dvc.lock` after a rename: the same results, of the same code under its new name.

A lock says: these outputs came from these dependencies. A rename changes the bytes of the dependencies and nothing that
they compute, so each hash that was that of a file before becomes that of the file afterwards. One that was not, because
the code has changed since, stays as it is, and the stage stays out of date.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

LOCK = "dvc.lock"

_ENTRY = re.compile(
    r"(?P<head>- path: (?P<path>[^\n]+)\n +hash: md5\n +md5: )(?P<md5>[0-9a-f]{32})\n(?P<size> +size: )\d+"
)


def relocked(text: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    """Return the text of a lock with the hashes of renamed files.

    Args:
        text: a lock in which names and paths are the new ones.
        before: what was committed under each new path, as it was.
        after: what it is to be.
    """

    def entry(match: re.Match[str]) -> str:
        path = match["path"].strip("'\"")
        if path not in after or path not in before or _md5(before[path]) != match["md5"]:
            return match[0]
        return f"{match['head']}{_md5(after[path])}\n{match['size']}{len(after[path])}"

    return _ENTRY.sub(entry, text)


def _md5(content: bytes) -> str:
    # DVC's name for content; nothing is secured by it.
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
