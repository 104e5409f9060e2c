"""Refuse files that are too large for Git: `python .ci/large_files.py FILE…`.

What Git has once had stays in every clone, whoever removes it later. Data belongs to DVC.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The largest that are here on purpose: a picture of a spectrogram, the hashes of all dependencies, a demonstration.
MOST_BYTES = 1_000_000

# The model that comes with the program, at any place of a renamed one.
MOST_BYTES_OF = {"transcription/pretrained/drums.safetensors": 2_000_000}


def most_bytes(name: str) -> int:
    """Return how large a file may be."""
    return next((most for end, most in MOST_BYTES_OF.items() if name.endswith(end)), MOST_BYTES)


def main() -> int:
    """Name every file that is too large; returns the exit code."""
    sizes = {
        name: Path(name).stat().st_size for name in sys.argv[1:] if Path(name).is_file() and not Path(name).is_symlink()
    }
    large = sorted(name for name, size_bytes in sizes.items() if size_bytes > most_bytes(name))
    for name in large:
        print(f"{name} has {sizes[name]:,} bytes, more than the {most_bytes(name):,} that Git should hold")
    if large:
        print(f"next: git restore --staged {large[0]}, then dvc add {large[0]}")
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())
