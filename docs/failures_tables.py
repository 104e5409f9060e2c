"""The tables of `docs/cloud.md` on what fails, made from the lists that the tests go through: `make docs`."""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

# What the tests bring about, and what they compare with, is what the page promises.
sys.path.append(str(Path(__file__).parents[1] / "tests"))

from bucket_failures import FAILURES
from dvc_messages import MESSAGES


def failures() -> str:
    """Return the table of what is wrong, what is said, and what to do."""
    rows = ((one.wrong, re.sub(r"^cannot [^:]+ \S+: ", "", one.what), one.next_step) for one in FAILURES)
    return _table(("What is wrong", "What is said", "What to do"), _merged(rows))


def messages() -> str:
    """Return the table of what DVC prints and what it means."""
    by_text: dict[str, list[str]] = {}
    # The last of them stands for whatever is not known.
    for one in MESSAGES[:-1]:
        by_text.setdefault(one.telling, []).append(one.wrong)
    body = [(f"`{telling}`", "; ".join(dict.fromkeys(wrong))) for telling, wrong in by_text.items()]
    return _table(("What DVC prints", "What is wrong"), body)


TABLES: dict[str, Callable[[], str]] = {"failures": failures, "messages": messages}


def _merged(rows: Iterable[tuple[str, str, str]]) -> list[tuple[str, ...]]:
    """Put together what is said in the same words."""
    by_words: dict[tuple[str, str], list[str]] = {}
    for wrong, says, step in rows:
        by_words.setdefault((says, step), []).append(wrong)
    return [("; ".join([wrong[0], *(_lower(one) for one in wrong[1:])]), *words) for words, wrong in by_words.items()]


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in (head, *body)]
    return "".join([lines[0], f"|{'---|' * len(head)}\n", *lines[1:]])
