"""What DVC's own messages mean: the same sentences as for our own requests, whoever made them.

DVC asks about an object before it reads or writes it, and the answer to that has no body that says why it is refused:
403 may be a wrong key, a wrong region, a wrong clock or a missing right. A listing of one name finds out which.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from backbeat.errors import CloudError, StorageError
from backbeat.remote import causes
from backbeat.remote.bucket import Bucket
from backbeat.remote.causes import Cause, Refusal
from backbeat.remote.settings import RemoteSettings

_REFUSAL = re.compile(r"An error occurred \((\w+)\) when calling the (\w+) operation(?: \([^)]*\))?: (.*)")
_UNSET = re.compile(r"\b(B2_\w+): (?:parameter )?is not set")
_NO_CONNECTION = re.compile(r"Could not connect to the endpoint URL|Cannot connect to host|Connect timeout on endpoint")
_SILENCE = re.compile(r"Read timeout on endpoint")
_ENDED = re.compile(r"Connection was closed|Response payload is not completed|Server disconnected")
_FULL = re.compile(r"\[Errno (?:28|122)\]|No space left on device|Disk quota exceeded")
_BUSY = re.compile(r"Unable to acquire lock|is busy, it is being")
_MISSING = re.compile(r"Missing cache files")
# Alone it means that DVC has fetched something, found that it is not what it should be, and thrown it away.
_DAMAGED = re.compile(r"Checkout failed for following targets")
_ERROR_LINE = re.compile(r"^ERROR: (.*)$", re.MULTILINE)

_NO_REASON = "the service refuses the keys, and does not say why"
_BY_LOCK = Cause(
    "another DVC process is at work in this clone",
    "wait for it to end; if there is none: backbeat doctor names the lock that is left over",
)
_NOT_THERE = Cause(
    "the bucket does not hold all that Git's pointers need",
    "backbeat cloud status names it; then backbeat cloud push in a clone that has it",
)
_WRONG_BYTES = Cause(
    "something arrived that is not what it should be",
    "the same command again; if it stays so: backbeat verify --remote --repair in a clone that has it whole",
)


def explain_dvc(
    output: str, returncode: int, settings: RemoteSettings, bucket: Bucket | None = None, doing: str = "finish in DVC"
) -> CloudError | StorageError:
    """Return the error that a person should see instead of what DVC printed.

    Args:
        output: what DVC printed on standard error, without keys.
        returncode: its exit code.
        settings: the remote that it used.
        bucket: the same remote, to ask where DVC's message has no reason; None asks nobody.
        doing: what was tried, as it continues `cannot …`.
    """
    if _FULL.search(output):
        return StorageError(
            f"cannot {doing}: the disk of DVC's cache is full",
            got="No space left on device",
            next_step="free some space, or backbeat storage evict; then the same command again",
        )
    cause = next((found for find in _FINDERS if (found := find(output, settings)) is not None), None)
    if bucket is not None and (cause is None or cause is _NOT_THERE or cause.says == _NO_REASON):
        try:
            bucket.require_listing(doing)
        except CloudError as known:
            return known
        if cause is not None and cause.says == _NO_REASON:
            # Keys, region and clock are right then: it is the object that may not be read.
            cause = causes.refused(Refusal(403, operation="HeadObject", keys=bucket.credentials.source), settings)
    if cause is None:
        lines = _ERROR_LINE.findall(output) or [output.strip()[-300:] or "nothing"]
        cause = Cause(f"DVC failed with exit code {returncode}", "backbeat doctor", got="; ".join(lines))
    return cause.error(doing)


def _refused(output: str, settings: RemoteSettings) -> Cause | None:
    found = _REFUSAL.search(output)
    if found is None:
        return None
    code, operation, message = found.groups()
    status = int(code) if code.isdigit() else None
    if code in {"NoSuchKey", "404"}:
        return _NOT_THERE
    if status in {400, 403} and operation.startswith("Head"):
        return _no_reason(status)
    return causes.refused(Refusal(status, code, message.strip(), operation), settings)


def _no_reason(status: int) -> Cause:
    return Cause(
        _NO_REASON,
        "backbeat doctor finds out; a wrong key, region or clock and a missing right all look like this",
        got=f"{status} for HeadObject",
    )


def _without_keys(output: str, _: RemoteSettings) -> Cause | None:
    unset = _UNSET.search(output)
    if unset:
        return causes.no_keys(f"{unset[1]} not set")
    if "Unable to locate credentials" in output or "Partial credentials found" in output:
        return causes.no_keys("none of them")
    return None


def _unreachable(output: str, settings: RemoteSettings) -> Cause | None:
    if "SSL validation failed" in output or "[SSL:" in output:
        return causes.insecure(settings, output)
    if _NO_CONNECTION.search(output):
        return causes.unreachable(settings, "")
    if _SILENCE.search(output):
        return causes.silent(settings)
    return causes.ended_early(settings) if _ENDED.search(output) else None


def _says(pattern: re.Pattern[str], cause: Cause) -> Callable[[str, RemoteSettings], Cause | None]:
    return lambda output, _: cause if pattern.search(output) else None


# Missing and damaged files come last: they are what other failures end in.
_FINDERS: tuple[Callable[[str, RemoteSettings], Cause | None], ...] = (
    _without_keys,
    _says(_BUSY, _BY_LOCK),
    _refused,
    _unreachable,
    _says(_MISSING, _NOT_THERE),
    _says(_DAMAGED, _WRONG_BYTES),
)
