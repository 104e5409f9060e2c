"""The rules by which one name becomes another in text.

In this order, and on borders of words, so that `afrobeat` stays what it is:

    BACKBEAT_DATA_DIR                          the variable
    BackbeatError                              a class
    Backbeat                                   prose
    src/backbeat, backbeat.cli, import backbeat   the package
    backbeat                                   everything else: the program, the distribution, folders, temporary names

What files on disk and in buckets are recognized by is no name of the project: `KEPT`. A renamed project reads what was
made before, and makes the same bytes. What is behind `scheme://` is somebody's address, and stays.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Callable
from functools import lru_cache

from backbeat.template.naming import Naming

# Literally, with as much around it as it takes to tell it from what is renamed. The formats of shards and models, the
# template's own name, and who has written it.
KEPT = (
    "backbeat shard",
    '_HEADER_KEY = "backbeat"',
    'metadata={"backbeat": ',
    'TEMPLATE = "backbeat"',
    "Backbeat template",
    "The Backbeat authors",
)

_ADDRESS = r"""://[^\s"'`<>\\]*"""

# What stands right before the name where it is the package without a dot behind it.
_BEFORE_PACKAGE = (
    "src/", 'src" / "', "import ", "-m ", 'build_graph("', 'getLogger("', 'import_module("', 'find_spec("',
    'files("', 'root_package = "', 'packages = ["', "_",
)  # fmt: skip

# What is read as Python.
PYTHON = (".py", ".pyi")

# In documents and settings, two blanks or more behind a name are a column to be kept.
_COLUMNS = (".md", ".yaml", ".yml")
_GAP = re.compile(r" {2,}")
_LEAST_GAP = 2

# Files with this are no text.
_MARK = "\0"


def renamed(text: str, before: Naming, after: Naming, kept: tuple[str, ...] = ()) -> str:
    """Return a text, or a path, with one name for the other, but in the words that are kept."""
    return _pattern(before, kept).sub(_replacement(after), text)


def renamed_document(path: str, text: str, before: Naming, after: Naming, kept: tuple[str, ...] = ()) -> str:
    """Return the text of a file with one name for the other, but in the words that are kept.

    In documents and settings, columns stay where they are. In Python, a word that stands for itself, in no string and
    no comment, is the package.
    """
    if path.endswith(_COLUMNS):
        return "\n".join(_in_columns(line, before, after, kept) for line in text.split("\n"))
    if path.endswith(PYTHON) and before.package in text:
        return renamed(_with_marks(text, before.package), before, after, kept).replace(_MARK, after.package)
    return renamed(text, before, after, kept)


def occurrences(text: str, naming: Naming) -> int:
    """Return how often a text says a name, in any of its forms."""
    return sum(match.lastgroup != "kept" for match in _pattern(naming).finditer(text))


def _with_marks(code: str, package: str) -> str:
    """Return code with a mark for each word that is the package; as it is, where it cannot be read as Python."""
    # As Python counts lines; a form feed or U+2028 ends none.
    lines = code.split("\n")
    try:
        words = [one for one in tokenize.generate_tokens(io.StringIO(code).readline) if one.string == package]
    except (tokenize.TokenError, SyntaxError):
        return code
    for word in reversed([one for one in words if one.type == tokenize.NAME]):
        number, column = word.start
        line = lines[number - 1]
        if line[column : column + len(package)] != package:
            return code
        lines[number - 1] = line[:column] + _MARK + line[column + len(package) :]
    return "\n".join(lines)


def _in_columns(line: str, before: Naming, after: Naming, kept: tuple[str, ...]) -> str:
    """Rename in a line; the first gap of two blanks behind a name gives or takes what the name has become longer."""
    done, rest = "", line
    replaced = _replacement(after)
    while match := _pattern(before, kept).search(rest):
        new = replaced(match)
        done, rest = done + rest[: match.start()] + new, rest[match.end() :]
        gap = _GAP.search(rest)
        if gap and not rest[: gap.start()].isspace():
            width = max(_LEAST_GAP, len(gap[0]) - (len(new) - len(match[0])))
            rest = rest[: gap.start()] + " " * width + rest[gap.end() :]
    return done + rest


def _replacement(after: Naming) -> Callable[[re.Match[str]], str]:
    forms = {
        "variable": after.variable, "camel": after.camel, "title": after.title, "package": after.package,
        "program": after.program,
    }  # fmt: skip
    return lambda match: forms.get(match.lastgroup or "", match[0])


@lru_cache(maxsize=8)
def _pattern(naming: Naming, kept: tuple[str, ...] = ()) -> re.Pattern[str]:
    package, program = re.escape(naming.package), re.escape(naming.program)
    at_package = "|".join(f"(?<={re.escape(before)})" for before in _BEFORE_PACKAGE)
    # Of one word, the class and the title are one; what follows the name decides.
    in_class = "(?=[A-Z])" if naming.camel == naming.title else "(?![a-z0-9])"
    packages = [
        f"(?:{at_package}){package}",
        # A module, also of an expression that is filled in or matched; no end of a sentence, no `.git`.
        rf"{package}(?=\.(?!git\b)[a-z_{{]|\\\.)",
        rf"(?<=[\"']){package}(?=\.[\"'])",
        f"(?<=from ){package}(?= import)",
        f"{package}(?=_)",
    ]
    if package != program:
        packages.append(package)
    rules = {
        "kept": "|".join(
            [
                _ADDRESS,
                *map(re.escape, KEPT),
                *(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])" for word in kept),
            ]
        ),
        "variable": rf"{naming.variable}(?![A-Za-z0-9])",
        "camel": f"{naming.camel}{in_class}",
        "title": f"{naming.title}(?![A-Za-z0-9])",
        "package": f"(?:{'|'.join(packages)})(?![A-Za-z0-9])",
        "program": f"{program}(?![A-Za-z0-9])",
    }
    # In code, the end of a line may be written as \\n, right before a word.
    border = r"(?:(?<![A-Za-z0-9])|(?<=\\n))"
    return re.compile(
        "|".join(f"(?P<{name}>{'' if name == 'kept' else border}(?:{rule}))" for name, rule in rules.items())
    )
