"""Bring up to date what is made from something else: `make docs`.

- A block of a document to fill is a comment `<!-- output of: COMMAND -->` and the fenced block after it.
- A table of a document to fill is a comment `<!-- table of: NAME -->` and the table after it: `failures_tables.py`,
  `card_tables.py`.
- `docs/datasets.md` and the list in `data/dvc.yaml` are made from the records of the registry,
  `docs/reference/commands.md` from the help of the commands.

With `--check` nothing is written, and the exit code is 1 if something is not what it would be now.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import card_tables
import commands_page
import datasets_page
import failures_tables

from backbeat.datasets.stages import STAGES_FILE, synced_text

REPOSITORY = Path(__file__).parents[1]
CARD = REPOSITORY / "src/backbeat/transcription/pretrained/MODEL_CARD.md"
TABLES = {**failures_tables.TABLES, **card_tables.TABLES}
BLOCK = re.compile(r"(<!-- output of: (.+?) -->\n```\n)(.*?)(```)", re.DOTALL)
TABLE = re.compile(r"(<!-- table of: (\w+) -->\n)(?:\|.*\n)*")


@cache
def output_of(command: str) -> str:
    """Return what a command prints, in 100 columns."""
    environment = {**os.environ, "COLUMNS": "100", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shown = subprocess.run(command.split(), cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    return shown.stdout.strip("\n") + "\n"


def refreshed() -> Iterator[tuple[Path, str]]:
    """Yield every file that is kept up to date here, and what should be in it."""
    yield REPOSITORY / STAGES_FILE, synced_text(REPOSITORY)
    made = {
        REPOSITORY / datasets_page.PAGE: datasets_page.datasets_page(REPOSITORY),
        REPOSITORY / commands_page.PAGE: commands_page.commands_page(),
    }
    yield from made.items()
    for document in [REPOSITORY / "README.md", CARD, *sorted((REPOSITORY / "docs").rglob("*.md"))]:
        if document not in made:
            before = document.read_text(encoding="utf-8")
            after = BLOCK.sub(lambda block: block[1] + output_of(block[2]) + block[4], before)
            yield document, TABLE.sub(lambda table: table[1] + TABLES[table[2]](), after)


def main() -> int:
    """Refresh or check every file; returns the exit code."""
    stale = []
    for path, after in refreshed():
        if not path.exists() or path.read_text(encoding="utf-8") != after:
            stale.append(str(path.relative_to(REPOSITORY)))
            if "--check" not in sys.argv:
                path.write_text(after, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"stale: {', '.join(stale)}; refresh with: make docs")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
