"""`backbeat library maintain` and `backup`: the library looked over, and its cold tier proven in the bucket."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from backbeat.cli.printing import AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project
from backbeat.errors import LibraryError

# Of each kind of finding; --json has all.
MOST_SHOWN = 20
# Of what is missing, a message names so many.
MOST_NAMED = 5

ARCHIVE = "data/library/archive"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group `library`."""
    app.command("maintain")(look_over)
    app.command("backup")(back_up)


def look_over(
    rehash: Annotated[bool, typer.Option("--rehash", help="Also read every sample and compare its hash.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look only: no vacuum, no copy, nothing removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look for what is lost, damaged, missing or left over, and keep a copy of notes, ledger, words and spend."""
    from backbeat.library.maintain import NEXT_STEPS, maintain

    done = maintain(find_project(), rehash=rehash, dry_run=dry_run)
    if as_json:
        print_json(done)
    else:
        counts: Counter[str] = Counter()
        rows = []
        for one in done.findings:
            counts[one.kind] += 1
            if counts[one.kind] <= MOST_SHOWN:
                rows.append((one.kind, one.what, one.why))
        if rows:
            print_table(("state", "what", "why"), rows, squeeze="why")
        for kind in (kind for kind in NEXT_STEPS if counts[kind]):
            typer.echo(f"{counts[kind]:,} {kind}; next: {NEXT_STEPS[kind]}", err=True)
        rehashed = f", {done.rehashed:,} samples" if rehash else ""
        typer.echo(f"hashes compared: {done.checked:,} FLAC files{rehashed}")
        typer.echo(f"memo: {bytes_text(done.memo_bytes)}, {bytes_text(done.freed_bytes)} given back")
        made = "would be made at" if dry_run else "made at"
        typer.echo(f"copy {made} {done.copy}" if done.copy else "copy: nothing has changed since the last one")
    if any(one.is_wrong for one in done.findings):
        raise typer.Exit(1)


def back_up(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prove only, and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Prove that the bucket has every archived original, and make a backup of the whole: `backbeat cloud backup`."""
    from backbeat.cloud.backup import backup

    project = find_project()
    originals = _require_versioned(project)
    found = backup(project, dry_run=dry_run)
    if as_json:
        print_json(found)
        return
    name = "everything is there" if dry_run else f"backup {found.made_at}"
    typer.echo(
        f"{name}: {originals:,} originals that only the archive has; {len(found.files):,} files, "
        f"{bytes_text(found.size_bytes)}, commit {found.commit[:12]}"
    )


def _require_versioned(project: Path) -> int:
    """Make sure that Git's pointers mean the FLAC file of every original that is gone; return how many those are.

    What the pointers mean is proven to be in the bucket by the backup itself.
    """
    from backbeat.cloud.backup import git
    from backbeat.cloud.contents import listing_reader
    from backbeat.cloud.pointers import artifacts, objects
    from backbeat.cloud.proofs import open_proofs
    from backbeat.library.ledger import read_ledger
    from backbeat.library.safekeeping import KEPT_FILES
    from backbeat.library.tables import read_table, table_path

    changed = git(project, "status", "--porcelain", "--untracked-files=all", "--", *KEPT_FILES)
    if changed.strip():
        raise LibraryError(
            "what people and the archive have noted of the library is not committed, and a backup is of a commit",
            expected="a commit that has it",
            got=", ".join(line[3:] for line in changed.splitlines()),
            next_step="git add data/library && git commit, then: backbeat library backup",
        )
    ledger = read_ledger(project)
    made = [one for one in artifacts(project) if one.path == ARCHIVE and one.oid is not None]
    with open_proofs(project) as proofs:
        known = {need.oid for one in made for need in objects(one, listing_reader(project, one, proofs, None))}
    # Another clone's FLAC file of the same original may be the one that is linked here.
    linked = read_table(project, "archive").to_pylist() if table_path(project, "archive").exists() else []
    versioned = {row["file_sha256"] for row in linked if row["flac_md5"] in known}
    missing = [
        entry.sample for entry in ledger.values() if entry.flac_md5 not in known and entry.file_sha256 not in versioned
    ]
    if missing:
        more = f" and {len(missing) - MOST_NAMED:,} more" if missing[MOST_NAMED:] else ""
        raise LibraryError(
            f"{len(missing):,} originals that only the archive has are in no version of {ARCHIVE}",
            expected=f"the FLAC files of all {len(ledger):,} in the pointer of {ARCHIVE}",
            got=", ".join(missing[:MOST_NAMED]) + more,
            next_step="dvc repro data/library/dvc.yaml:archive; git commit data/library/dvc.lock; "
            f"backbeat cloud push {ARCHIVE}",
        )
    return len(ledger)
