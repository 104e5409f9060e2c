"""What of a partial file counts after a kill, and after a crash of the machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from backbeat.datasets.transport import partial
from backbeat.datasets.transport.partial import Partial, part_path

CONTENT = bytes(range(256)) * 16


def left_by_a_dead_process(final: Path) -> None:
    """Write 4,096 bytes in four chunks, a block being 1,500 of them."""
    part = Partial(final, "sha256")
    part.restart("https://example.org/a", '"v1"')
    for start in range(0, len(CONTENT), 1024):
        part.append(CONTENT[start : start + 1024])
        if part._syncing is not None:
            part._syncing.join()
    part.close()


@pytest.fixture
def final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(partial, "BLOCK_BYTES", 1500)
    return tmp_path / "file.zip"


def test_everything_counts_under_the_same_boot(final: Path) -> None:
    left_by_a_dead_process(final)
    assert Partial(final, "sha256").size_bytes == 4096


@pytest.mark.parametrize("boot", ["another", None])
def test_forced_blocks_count_under_another_boot(boot: str | None, final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by_a_dead_process(final)
    monkeypatch.setattr(partial, "boot_id", lambda: boot)
    after = Partial(final, "sha256")
    # Forced after the second and the fourth chunk, as each of them completes a block.
    assert (after.size_bytes, part_path(final).read_bytes()) == (4096, CONTENT)


def test_what_was_not_forced_does_not_count_under_another_boot(final: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by_a_dead_process(final)
    part_path(final).write_bytes(CONTENT + bytes(1000))
    monkeypatch.setattr(partial, "boot_id", lambda: "another")
    assert (Partial(final, "sha256").size_bytes, part_path(final).read_bytes()) == (4096, CONTENT)


def test_nothing_counts_if_nothing_was_forced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by_a_dead_process(tmp_path / "file.zip")
    monkeypatch.setattr(partial, "boot_id", lambda: "another")
    after = Partial(tmp_path / "file.zip", "sha256")
    assert (after.size_bytes, after.origin()) == (0, None)


def test_digest_is_that_of_all_bytes_of_both_processes(final: Path) -> None:
    left_by_a_dead_process(final)
    with Partial(final, "sha256") as after:
        after.append(b"more")
        assert after.digest() == hashlib.sha256(CONTENT + b"more").hexdigest()
