"""The errors that a person sees: what happened, what was expected, what was found, what to do next.

Every failure that bad input or a bad environment can cause is a `BackbeatError`. The command line prints it
without a traceback and exits with 1; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations


class BackbeatError(Exception):
    """A failure with a message made for people.

    Args:
        what: one sentence that names the thing that failed, and where.
        expected: what would have been right.
        got: what was found instead.
        next_step: the command to type or the thing to change.
    """

    def __init__(
        self, what: str, *, expected: str | None = None, got: str | None = None, next_step: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.got = got
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [("expected", self.expected), ("got", self.got), ("next", self.next_step)]
        return "\n".join([self.what, *(f"  {name}: {text}" for name, text in parts if text is not None)])

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders by pickling; keyword arguments would be lost without this.
        return _rebuild, (type(self), self.what, self.expected, self.got, self.next_step)


def _rebuild(
    kind: type[BackbeatError], what: str, expected: str | None, got: str | None, next_step: str | None
) -> BackbeatError:
    return kind(what, expected=expected, got=got, next_step=next_step)


class ConfigError(BackbeatError):
    """A file under `configs/`, `params.yaml` or `.dvc/config` says something that cannot be meant."""


class DownloadError(BackbeatError):
    """A dataset's bytes could not be had, or are not the bytes that its record promises."""


class ArchiveError(BackbeatError):
    """An archive is damaged, or does not hold what its layout promises."""


class AudioError(BackbeatError):
    """A sound file cannot be decoded into finite samples."""


class MidiError(BackbeatError):
    """A MIDI file cannot be read as a list of notes."""


class ShardError(BackbeatError):
    """A shard is damaged, missing or of another format version."""


class ModelError(BackbeatError):
    """A model file is damaged or does not fit the configuration."""


class StorageError(BackbeatError):
    """The disk is full, read-only, or not where the configuration says."""


class CloudError(BackbeatError):
    """The bucket cannot be reached, refuses, or does not hold what it should."""


class ExperimentError(BackbeatError):
    """A preset, a revision or an experiment is not there, cannot be run, or cannot be compared."""


class LibraryError(BackbeatError):
    """The sample library lacks a sample or a table, or what it was asked to do would lose one."""
