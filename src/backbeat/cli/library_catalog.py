"""`backbeat library catalog`, `find`, `show`, `browse`, `rate`, `tag`, `note`, `stats`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from backbeat.cli.printing import COLUMN_GAP, AsJson, bytes_text, print_json, print_table
from backbeat.config import find_project
from backbeat.errors import ConfigError, LibraryError

if TYPE_CHECKING:
    from backbeat.library.find import Found
    from backbeat.library.notes import Note
    from backbeat.library.stats import Stats

Samples = Annotated[
    list[str], typer.Argument(metavar="SAMPLE…", help="A name, the path of a file, or a part that only one name has.")
]


# What `find` prints beside the samples of a state: the header of why they are in it.
_WHY = {
    **dict.fromkeys(("unreadable", "silent", "rejected"), "reason"),
    "clipped": "samples clipped",
    "duplicate": "kept instead",
    "chosen": "in production",
    "archived": "bytes of FLAC",
}

# So much of a name, and of the words about it, is there in the narrowest terminal.
LEAST_TOLD = 20


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group `library`."""
    app.command("catalog")(make_catalog)
    app.command("find")(find_samples)
    app.command("show")(show_sample)
    app.command("browse")(browse)
    app.command("rate")(rate)
    app.command("tag")(tag)
    app.command("note")(write_note)
    app.command("stats")(show_stats)


def make_catalog(as_json: AsJson = False) -> None:
    """Make the database of the library anew: of what the stages found out, and what you noted."""
    from backbeat.library.catalog import CATALOG_FILE, catalog

    made = catalog(find_project())
    if as_json:
        print_json(made)
        return
    typer.echo(f"{CATALOG_FILE}: {made.samples:,} samples, {made.sounds:,} sounds, {bytes_text(made.size_bytes)}")
    for name, sample in made.moved.items():
        typer.echo(f"the note about {name} is about {sample} now", err=True)
    for name in made.gone:
        typer.echo(f"the note about {name} stays, but no such sample is there", err=True)


def find_samples(
    text: Annotated[str, typer.Argument(help="In words: dark kick under 300 ms.")] = "",
    bpm: Annotated[str | None, typer.Option(help="90:100, 90:, :100, or one tempo.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Am, 'F# minor'; C for either mode and for hits of that note; C2 for one note.")
    ] = None,
    sound_class: Annotated[list[str] | None, typer.Option("--class", help="Such as kick; may be repeated.")] = None,
    kind: Annotated[str | None, typer.Option(help="one-shot or loop.")] = None,
    like: Annotated[
        str | None, typer.Option(metavar="FILE", help="What sounds like this, a sample or any file.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(help="unreadable, clipped, silent, duplicate, rejected, chosen or archived; says why."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 20,
    copies: Annotated[bool, typer.Option("--copies", help="Also what sounds the same as another one.")] = False,
    paths: Annotated[bool, typer.Option("--paths", help="Print the paths of files alone, one in a line.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find samples: by what they are, and by what they sound like."""
    from backbeat.library.find import Wish, find, hit_values

    wish = Wish(text, bpm=bpm, key=key, classes=tuple(sound_class or ()), kind=kind, like=like, state=state)
    found = find(find_project(), wish, limit=limit, copies=copies)
    typer.echo(f"looking for: {found.understood}", err=True)
    if paths:
        for hit in found.hits:
            if hit.place is None:
                typer.echo(f"{hit.sample} is in an archive", err=True)
            else:
                typer.echo(str(hit.place))
    elif as_json:
        print_json({"understood": found.understood, "total": found.total, "hits": [*map(hit_values, found.hits)]})
    elif found.hits:
        _print_hits(found, _WHY.get(state or ""))
    left = [f"{found.total - len(found.hits):,} more with --limit"] if found.total > len(found.hits) else []
    left += [f"{found.copies:,} that sound the same with --copies"] if found.copies else []
    if left or not found.hits:
        typer.echo("; ".join(left) if found.hits else "nothing is like this", err=True)


def show_sample(
    sample: Annotated[str, typer.Argument(help="A name, the path of a file, or a part that only one name has.")],
    everything: Annotated[bool, typer.Option("--all", help="Also every number that was measured.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is known of a sample: its sound, its score by rule, what it is a duplicate of."""
    from backbeat.library.catalog import read_catalog
    from backbeat.library.lookup import resolve
    from backbeat.library.show import main_facts, readable, show

    project = find_project()
    with read_catalog(project) as db:
        shown = show(db, resolve(db, project, sample))
    if as_json:
        print_json({"sample": shown.sample, **shown.sections})
        return
    typer.echo(shown.sample)
    for heading, facts in (shown.sections if everything else main_facts(shown)).items():
        typer.echo("")
        rows = facts.items() if heading == "duplicates" else (readable(*fact) for fact in facts.items())
        print_table((heading, ""), [*rows])


def browse(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8001,
) -> None:
    """Serve the library to browsers of this machine: search, filter, play. Ctrl-C ends it."""
    from backbeat.library.browse.serve import serve

    serve(find_project(), port=port, announce=typer.echo)


def rate(rating: Annotated[str, typer.Argument(help="1 to 5; 0 takes the rating away.")], samples: Samples) -> None:
    """Rate samples: backbeat library rate 5 SAMPLE."""
    if rating not in set("012345"):
        raise ConfigError(
            f"{rating} is no rating", expected="0 to 5, then samples", next_step=f"backbeat library rate 5 '{rating}'"
        )
    _change(samples, lambda note: note.model_copy(update={"rating": int(rating) or None}), f"rate {rating}")


def tag(
    tags: Annotated[str, typer.Argument(help="One or more, with commas between them.")],
    samples: Samples,
    remove: Annotated[bool, typer.Option("--remove", help="Take the tags away.")] = False,
) -> None:
    """Put tags on samples: backbeat library tag dusty,warm SAMPLE."""
    from backbeat.library.notes import merged_tags

    named = [one.strip() for one in tags.split(",") if one.strip()]
    added, removed = ([], named) if remove else (named, [])
    _change(samples, lambda note: note.model_copy(update={"tags": merged_tags(note, added, removed)}), "tag dusty,warm")


def write_note(
    text: Annotated[str, typer.Argument(help="What to note; '' takes it away, or with --class leaves it.")],
    samples: Samples,
    sound_class: Annotated[
        str | None, typer.Option("--class", help="What it is, where the program is wrong; '' takes it away.")
    ] = None,
) -> None:
    """Write a note about samples, or correct their class: backbeat library note 'for the intro' SAMPLE."""
    from backbeat.library.catalog import read_catalog
    from backbeat.library.lookup import known_class, vocabulary

    said: dict[str, str | None] = {}
    if text or sound_class is None:
        said["notes"] = text or None
    if sound_class is not None:
        with read_catalog(find_project()) as db:
            said["sound_class"] = known_class(sound_class, vocabulary(db)) if sound_class else None
    _change(samples, lambda note: note.model_copy(update=said), "note 'for the intro'")


def show_stats(
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw it as well.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count the library: samples, hours, sizes, duplicates, quality, growth, spend."""
    from backbeat.library.catalog import CATALOG_FILE, read_catalog
    from backbeat.library.stats import read_stats

    project = find_project()
    with read_catalog(project) as db:
        stats = read_stats(project, db, project / CATALOG_FILE)
    if plot is not None:
        from backbeat.library.stats_plot import draw_stats

        draw_stats(plot, stats)
    if as_json:
        print_json(stats)
    else:
        _print_stats(stats)


def _change(samples: list[str], change: Callable[[Note], Note], example: str) -> None:
    from backbeat.library.catalog import change_notes, read_catalog
    from backbeat.library.lookup import resolve

    project = find_project()
    try:
        with read_catalog(project) as db:
            names = [resolve(db, project, sample) for sample in samples]
    except LibraryError as error:
        # It may be that what is noted stands where a sample should.
        error.next_step = f"{error.next_step}; samples come last: backbeat library {example} SAMPLE"
        raise
    for sample, note in change_notes(project, names, change).items():
        said = [f"{note.rating} of 5" if note.rating else None, ", ".join(note.tags), note.sound_class, note.notes]
        typer.echo(f"{sample}: {'; '.join(filter(None, said)) or 'nothing noted'}")


def _print_hits(found: Found, why: str | None) -> None:
    """Print a table; `why` is the header of what a state comes from."""
    compared = found.hits[0].similarity is not None
    headers = ["name", "class", "ms"]
    headers += [why] if why else ["bpm", "key", "words", "score"]
    headers += ["similarity"] if compared else []
    rows = []
    for hit in found.hits:
        tempo = None if hit.tempo_bpm is None else f"{hit.tempo_bpm:g}"
        score = None if hit.score is None else f"{hit.score:.0f}"
        fault = f"cannot be read: {hit.error}" if hit.error else "silent" if hit.silent else hit.words
        words = ", ".join(filter(None, [fault, hit.tags]))
        row = [hit.sample, hit.sound_class or (hit.kind if hit.kind == "loop" else None), hit.duration_ms]
        row += [hit.why] if why else [tempo, hit.key or hit.note, words, score]
        rows.append([*row, f"{hit.similarity:.3f}"] if hit.similarity is not None else row)
    told = why or "words"
    _cut_names(headers, rows, told)
    print_table(headers, rows, right=("ms", "bpm", "score", "similarity"), squeeze=None if why else told)


def _cut_names(headers: list[str], rows: list[list[Any]], told: str) -> None:
    """Cut the beginning of long names, so that all columns keep their content and `told` a part of its own."""
    from backbeat.library.lookup import CUT

    widths = {
        header: max(len(str(cell)) if cell is not None else 0 for cell in (header, *column))
        for header, column in zip(headers, zip(*rows, strict=True), strict=True)
    }
    others = sum(width for header, width in widths.items() if header not in {"name", told})
    room = Console().width - others - COLUMN_GAP * (len(headers) - 1) - min(widths[told], LEAST_TOLD)
    room = max(room, LEAST_TOLD)
    for row in rows:
        if len(row[0]) > room:
            row[0] = CUT + row[0][1 - room :]


def _print_stats(stats: Stats) -> None:
    now = stats.now
    score = "none has one" if now.mean_score is None else f"{now.mean_score:.1f} of 100"
    facts = [
        ("samples", f"{now.samples:,}, {now.unreadable:,} of them unreadable"),
        ("distinct sounds", f"{now.sounds:,}, {100 * now.described:.4g} % of the samples described"),
        ("length", _length(now.hours)),
        ("size", f"{bytes_text(now.size_bytes)}, of which {bytes_text(now.archived_bytes)} as FLAC in the archive"),
        ("duplicates", f"{now.copies:,} the same as another, {now.near:,} nearly"),
        ("in production", f"{now.chosen:,}"),
        ("quality", f"{score} on average" if now.mean_score is not None else score),
        ("rated by you", f"{now.rated:,}"),
        ("database", bytes_text(stats.catalog_bytes)),
        ("spent on words", f"{sum(stats.spent_usd.values()):.4f} USD"),
    ]
    print_table(("what", "how much"), facts)
    typer.echo("")
    print_table(
        ("source", "where", "samples", "length", "size"),
        [
            (part.source, part.tier, f"{part.samples:,}", _length(part.hours), bytes_text(part.size_bytes))
            for part in now.parts
        ],
        right=("samples", "length", "size"),
    )
    for headers, rows in (
        (("day", "samples", "length"), [(one.day, f"{one.samples:,}", _length(one.hours)) for one in stats.growth]),
        (("day", "USD"), [(day, f"{usd:.4f}") for day, usd in sorted(stats.spent_usd.items())]),
    ):
        if rows:
            typer.echo("")
            print_table(headers, rows, right=headers[1:])


def _length(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
