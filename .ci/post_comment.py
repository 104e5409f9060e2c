"""Put what `results.yml` found under its pull request, in one comment that later runs replace.

`results-comment.yml` runs this file of the default branch, with a right to write, after a run that had none and that
executed whatever the pull request holds. Hence:

- Which pull request it was is GitHub's word (whose branch, which commit), not the artifact's.
- The artifact is text: read in memory, of limited size, without control characters, and naming nobody.
- The comment begins with a mark of ours; one that somebody else wrote is never changed.

Only the standard library and GitHub's own `gh` are used: nothing is installed here.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from typing import Any
from urllib.parse import quote

MARK = "<!-- results of this pull request -->"
NOTE = "<sub>Written by the code of this pull request, at {sha}.</sub>"
AUTHOR = "github-actions[bot]"
ARTIFACT, FILE = "comment", "comment.md"

# GitHub takes 65,536 characters; the script that writes the text stays below 61,000.
MOST_CHARACTERS = 62_000
MOST_BYTES = 4 * MOST_CHARACTERS

SHAPES = {
    "GITHUB_REPOSITORY": r"[\w.-]+/[\w.-]+",
    "HEAD_SHA": r"[0-9a-f]{40}",
    "HEAD_OWNER": r"[A-Za-z0-9-]+(\[bot\])?",
    "RUN_ID": r"[0-9]+",
}


def main() -> int:
    """Write or replace the comment; returns the exit code."""
    for name, shape in SHAPES.items():
        if not re.fullmatch(shape, os.environ[name]):
            print(f"{name} is not what GitHub would say: {os.environ[name]!r}")
            return 1
    repository, sha = os.environ["GITHUB_REPOSITORY"], os.environ["HEAD_SHA"]
    number = pull_request(repository, os.environ["HEAD_OWNER"], os.environ["HEAD_BRANCH"], sha)
    if number is None:
        print(f"no single open pull request has {sha} as its head: there is nothing to comment on, or a newer run does")
        return 0
    text = artifact(repository, os.environ["RUN_ID"])
    if text is None:
        print("the run has left no text of an acceptable size")
        return 1
    # Our words first: markup of the text that is not closed would swallow what follows it.
    body = "\n\n".join([MARK, NOTE.format(sha=sha), harmless(text)])
    comment = own_comment(repository, number)
    if comment is None:
        api("POST", f"repos/{repository}/issues/{number}/comments", {"body": body})
    else:
        api("PATCH", f"repos/{repository}/issues/comments/{comment}", {"body": body})
    return 0


def pull_request(repository: str, owner: str, branch: str, sha: str) -> int | None:
    """Return the open pull request of a branch whose last commit this is; None if there is none, or several."""
    found = pages(f"repos/{repository}/pulls?state=open&per_page=100&head={quote(f'{owner}:{branch}', safe='')}")
    numbers = [int(one["number"]) for one in found if one["head"]["sha"] == sha]
    return numbers[0] if len(numbers) == 1 else None


def artifact(repository: str, run: str) -> str | None:
    """Return the text that a run has left; None if there is none of that name and a sensible size."""
    (listed,) = pages(f"repos/{repository}/actions/runs/{run}/artifacts?name={ARTIFACT}")
    sizes = {int(one["id"]): int(one["size_in_bytes"]) for one in listed["artifacts"] if not one["expired"]}
    if len(sizes) != 1 or max(sizes.values()) > MOST_BYTES:
        return None
    content = gh("api", f"repos/{repository}/actions/artifacts/{next(iter(sizes))}/zip")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(FILE) as stream:
            # A small archive can hold a large file: no more of it is unpacked than is used.
            text = stream.read(MOST_BYTES + 1)
    except (zipfile.BadZipFile, KeyError, ValueError):
        return None
    return text.decode(errors="replace") if len(text) <= MOST_BYTES else None


def harmless(text: str) -> str:
    """Return a text that notifies nobody, hides nothing and fits."""
    visible = "".join(character for character in text if character == "\n" or character.isprintable())
    # A zero-width space: `@name` is shown, and calls nobody.
    return visible.replace("@", "@\u200b").replace("<!--", "&lt;!--")[:MOST_CHARACTERS]


def own_comment(repository: str, number: int) -> int | None:
    """Return the first comment that an earlier run has made."""
    for comment in pages(f"repos/{repository}/issues/{number}/comments?per_page=100"):
        if comment["user"]["login"] == AUTHOR and comment["body"].startswith(MARK):
            return int(comment["id"])
    return None


def pages(path: str) -> list[Any]:
    """Return what GitHub answers, the lists of all pages as one."""
    answers = json.loads(gh("api", "--paginate", "--slurp", path))
    return [one for answer in answers for one in (answer if isinstance(answer, list) else [answer])]


def api(method: str, path: str, content: dict[str, str]) -> None:
    """Send something to GitHub."""
    gh("api", "--method", method, path, "--input", "-", given=json.dumps(content).encode())


def gh(*words: str, given: bytes = b"") -> bytes:
    """Run GitHub's program and return what it prints."""
    return subprocess.run(["gh", *words], input=given, stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
