"""Keys of a fixed shape, for detect-secrets; the hook `secrets` in `.pre-commit-config.yaml` loads this file.

detect-secrets does not know keys of Backblaze or Hugging Face, and sees no comment in a file that parses as INI, where
it reads values only: `# secret_access_key = …` in `.dvc/config` would pass. This plugin reads files as they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from detect_secrets.core.potential_secret import PotentialSecret
from detect_secrets.plugins.base import RegexBasedDetector

_NOT_INSIDE_A_WORD = r"(?<![0-9A-Za-z+/_])(?:{})(?![0-9A-Za-z+/_=])"


class FixedShapeDetector(RegexBasedDetector):
    """Keys of Backblaze B2, AWS and Hugging Face, and private keys, wherever in a file they stand.

    Excused are they only by value (`--exclude-secrets`): filters of lines see the line that was offered, not theirs.
    """

    secret_type = "Key of a fixed shape"  # noqa: S105  # pragma: allowlist secret
    denylist = tuple(
        re.compile(_NOT_INSIDE_A_WORD.format(shape))
        for shape in (
            # B2's key ID: 00, the cluster's digit, 12 digits of the account, a counter of 10.
            r"00[0-9][0-9a-f]{12}[0-9a-f]{10}",
            r"K00[0-9][0-9A-Za-z+/]{27}",
            r"(?:AKIA|ASIA)[0-9A-Z]{16}",
            r"hf_[0-9A-Za-z]{30,}",
            r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
        )
    )

    def __init__(self) -> None:
        self._read: set[str] = set()

    def analyze_line(self, filename: str, line: str, line_number: int = 0, **kwargs: Any) -> set[PotentialSecret]:
        """Search a line; with the first one of a file, all lines of that file, which may be more than are offered."""
        found: set[PotentialSecret] = super().analyze_line(filename, line, line_number, **kwargs)
        if filename not in self._read:
            self._read.add(filename)
            for number, raw in enumerate(Path(filename).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                found |= super().analyze_line(filename, raw, number)
        return found
