"""The page on datasets, `docs/datasets.md`, made from the records: `make docs`.

Nothing on it is written by hand but the sentences in this file. It depends on the records alone: not on what is on
this disk, nor on the day.
"""

from pathlib import Path
from urllib.parse import unquote

from rich.filesize import decimal

from backbeat.datasets.registry import PHASES, UNVERIFIED, Record, RecordFile, load_registry, url_scheme

PAGE = "docs/datasets.md"

INTRODUCTION = """\
<!-- Made from configs/datasets/*.yaml by `make docs`; change those. -->
# Datasets

Each dataset is one record, `configs/datasets/<name>.yaml`; adding the file registers it.
{counted}

- `backbeat datasets plan --phase minimal` says what would be fetched, before a byte moves.
- `backbeat datasets download NAME` fetches, proves and links it into `data/raw/NAME`.
- `backbeat datasets licenses NAME` prints what to say beside results made from it.

How to read the tables: **commercial** is *yes*, *no*, *per item* where each item has a license of its own, or *not
stated*. With `intended_use: commercial` in `params.yaml` nothing but a *yes* is preprocessed or trained on. **Size** is
that of the download, *about* so much where nobody states it to the byte. A file whose **hash** is *unverified* has
none that is published: nothing proves its bytes.
"""

SOURCES = {
    "manual": "a person fetches it",
    "generate": "made here",
    "gdrive": "Google Drive",
    "file": "a copy of your own",
}


def datasets_page(project: Path) -> str:
    """Return the whole page as Markdown.

    Raises:
        ConfigError: if a record is not valid.
    """
    records = list(load_registry(project).values())
    available = [record for record in records if not record.excluded]
    excluded = [record for record in records if record.excluded]
    parts = [
        INTRODUCTION.format(counted=_counted(available)),
        "## Overview\n",
        _overview(available),
        "## Phases\n",
        "A phase holds those before it, too. Datasets of no phase are chosen by name or collection.\n",
        *(_phase(phase, available) for phase in PHASES),
        "\n## Collections\n",
        *(_collection(name, available) for name in sorted({name for one in available for name in one.collections})),
        "\n## One by one",
        *map(_section, available),
        "\n## Excluded\n",
        "Known, often asked for, and never fetched.",
        *map(_section, excluded),
    ]
    return "\n".join(parts) + "\n"


def _counted(records: list[Record]) -> str:
    verified = sum(record.verified_on is not None for record in records)
    unverified = sum(any(file.hash == UNVERIFIED for file in record.files) for record in records)
    first = f"{verified} of them have" if verified else "None has"
    return (
        f"There are {len(records)}. {first} been fetched and compared yet: sizes and hashes are those that publishers "
        f"and loaders of other\nprojects state. For {unverified} of them no hash is published."
    )


def _overview(records: list[Record]) -> str:
    rows = [
        (
            f"[{record.name}](#{record.name})",
            record.title,
            _size(record),
            _license(record),
            _commercial(record),
            record.phase or "",
            ", ".join(sorted(record.collections)),
        )
        for record in records
    ]
    return _table(("name", "title", "size >", "license", "commercial", "phase", "collections"), rows)


def _phase(phase: str, records: list[Record]) -> str:
    members = [record for record in records if record.phase == phase]
    size = decimal(sum(record.expected_bytes or 0 for record in members))
    names = ", ".join(f"[{record.name}](#{record.name})" for record in _by_priority(members))
    return f"- **{phase}** adds {names}: about {size}."


def _collection(name: str, records: list[Record]) -> str:
    def members(state: str) -> str:
        found = _by_priority([record for record in records if record.collections.get(name) == state])
        return ", ".join(f"[{record.name}](#{record.name})" for record in found)

    optional = f"; optional: {members('optional')}" if members("optional") else ""
    return f"- **{name}**: {members('required') or 'nothing required'}{optional}."


def _by_priority(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (-record.priority, record.name))


def _section(record: Record) -> str:
    heading = f"[{record.title}]({record.homepage})" if record.homepage else record.title
    facts = [
        f"Purpose: {record.purpose}",
        f"priority: {record.priority} of 5",
        f"layout: `{record.layout}`",
        *([f"verified on {record.verified_on}"] if record.verified_on else []),
    ]
    blocks = [
        f"\n### {record.name}\n",
        f"{heading}. {'; '.join(facts)}.\n",
        f"**Excluded:** {record.excluded}\n" if record.excluded else None,
        f"{record.notes}\n" if record.notes else None,
        f"**License:** {_license(record)}; commercial use: {_commercial(record)}; redistribution: "
        f"{'yes' if record.license.redistribute else 'no'}."
        + (f" {record.license.note}" if record.license.note else "")
        + "\n",
        f"**Cite:** {record.citation}\n" if record.citation else None,
        _table(
            ("file", "size >", "hash", "from"),
            [(f"`{file.path}`", _bytes(file.size), _hash(file), _sources(file)) for file in record.files],
        ).rstrip("\n"),
    ]
    return "\n".join(block for block in blocks if block is not None)


def _size(record: Record) -> str:
    if record.expected_bytes is None:
        return "unknown"
    return ("about " if record.size_bytes is None else "") + decimal(record.expected_bytes)


def _license(record: Record) -> str:
    return f"[{record.license.id}]({record.license.url})" if record.license.url else record.license.id


def _commercial(record: Record) -> str:
    if record.license.commercial is None:
        return "per item" if record.license.id == "per-item" else "not stated"
    return "yes" if record.license.commercial else "no"


def _bytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size:,}"


def _hash(file: RecordFile) -> str:
    algorithm, _, digest = file.hash.partition(":")
    return f"`{algorithm}:{digest[:12]}…`" if digest else UNVERIFIED


def _sources(file: RecordFile) -> str:
    return "<br>".join(_source(url) for url in file.urls)


def _source(url: str) -> str:
    scheme, rest = url_scheme(url), unquote(url.partition("://")[2])
    if scheme == "https":
        return f"[{rest.partition('/')[0]}]({url})"
    if scheme == "http":
        return f"{rest.partition('/')[0]} (unencrypted)"
    if scheme == "hf":
        repository, _, revision = rest.partition("/")[2].partition("@")
        return f"Hugging Face: {repository} at `{revision.partition('/')[0]}`"
    if scheme == "zenodo":
        number = rest.partition("/")[0]
        return f"[Zenodo {number}](https://zenodo.org/records/{number})"
    if scheme == "manual":
        return f"{SOURCES[scheme]}: [{rest.partition('/')[0]}](https:{url.removeprefix('manual:')})"
    return SOURCES[scheme]


def _table(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown; a column whose header ends in ` >` is aligned to the right."""
    names = [header.removesuffix(" >") for header in headers]
    rules = ["---:" if header.endswith(" >") else "---" for header in headers]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [names, rules, *escaped]) + "\n"
