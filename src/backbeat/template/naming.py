"""The name of a project, in the forms in which it shows, and which names cannot be had."""

from __future__ import annotations

import importlib.metadata
import keyword
import re
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from backbeat.errors import ConfigError

PROJECT_FILE = "pyproject.toml"

# The name under which the template itself goes about: who has another one has made it theirs already.
TEMPLATE = "backbeat"

# The template's version: a project at another one has a history of its own.
TEMPLATE_VERSION = "0.1.0"

# Lines that a name makes too long for the linter are measured (`tidying`); this is about what a person types.
MOST_LETTERS = 40
_RULE = re.compile(rf"(?=.{{2,{MOST_LETTERS}}}$)[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Naming:
    """A project's name.

    Args:
        program: of the distribution and the command: `two-words`.
    """

    program: str

    @property
    def package(self) -> str:
        """The package that is imported: `two_words`."""
        return self.program.replace("-", "_")

    @property
    def variable(self) -> str:
        """What variables of the environment begin with: `TWO_WORDS`."""
        return self.package.upper()

    @property
    def title(self) -> str:
        """The name in prose: `Two Words`."""
        return " ".join(word.capitalize() for word in self.program.split("-"))

    @property
    def camel(self) -> str:
        """What names of classes begin with: `TwoWords`."""
        return self.title.replace(" ", "")


def present_naming(project_text: str) -> Naming:
    """Return the name that a `pyproject.toml` says.

    Raises:
        ConfigError: if it says none, or is not TOML.
    """
    try:
        return Naming(str(tomllib.loads(project_text)["project"]["name"]))
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{PROJECT_FILE} does not say what the project is called",
            expected="name = … below [project]",
            got=str(error),
            next_step=f"git checkout {PROJECT_FILE}",
        ) from error


def check_name(name: str, project: Path) -> Naming:
    """Refuse a name that Python, a library or another program has, or that could not be one.

    Raises:
        ConfigError: saying who has it.
    """
    if not _RULE.fullmatch(name):
        raise _refused(name, f"2 to {MOST_LETTERS} lower-case letters, digits and single hyphens, a letter first", name)
    naming = Naming(name)
    if keyword.iskeyword(naming.package) or keyword.issoftkeyword(naming.package):
        raise _refused(name, "a name of its own", "a word of Python")
    if naming.package in sys.stdlib_module_names:
        raise _refused(name, "a name of its own", f"the module {naming.package} of Python's own library")
    if _is_this(name, project):
        return naming
    for distribution in importlib.metadata.packages_distributions().get(naming.package, []):
        raise _refused(name, "a name of its own", f"the package {naming.package} of {distribution}")
    if _distribution(name) is not None:
        raise _refused(name, "a name of its own", f"the distribution {name}, which is installed")
    if program := shutil.which(name):
        raise _refused(name, "a name of its own", f"the program {program}, which it would hide")
    return naming


def _is_this(name: str, project: Path) -> bool:
    """Return whether what is installed under a name is this project: renamed before, installed, and taken back."""
    installed = _distribution(name)
    address = installed.read_text("direct_url.json") if installed else None
    return address is not None and f'"{project.resolve().as_uri()}"' in address


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _refused(name: str, expected: str, got: str) -> ConfigError:
    return ConfigError(
        f"{name!r} cannot be the project's name", expected=expected, got=got, next_step="give another --name"
    )
