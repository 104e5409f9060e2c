"""Put the output of commands into the documents: `make docs`.

A block to fill is a comment `<!-- output of: COMMAND -->` and the fenced block after it. With `--check` nothing is
written, and the exit code is 1 if a block is not what its command prints now.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- output of: (.+?) -->\n```\n)(.*?)(```)", re.DOTALL)


def output_of(command: str) -> str:
    """Return what a command prints, in 100 columns."""
    environment = {**os.environ, "COLUMNS": "100", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shown = subprocess.run(command.split(), cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    return shown.stdout.strip("\n") + "\n"


def main() -> int:
    """Refresh or check every document; returns the exit code."""
    stale = []
    for document in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]:
        before = document.read_text(encoding="utf-8")
        after = BLOCK.sub(lambda block: block[1] + output_of(block[2]) + block[4], before)
        if after != before:
            stale.append(document.name)
            if "--check" not in sys.argv:
                document.write_text(after, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"stale: {', '.join(stale)}; refresh with: make docs")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
