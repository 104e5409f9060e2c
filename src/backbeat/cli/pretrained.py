"""`backbeat package-model` and `backbeat evaluate-model`: the model in the box, and what a model is worth.

A model is scored on recordings with annotations, whatever they are, in any folder: nothing is read of a project but its
table of drums, if there is one, and nothing is written unless `--json` says where.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backbeat.cli.pipeline import need_training_packages
from backbeat.config import find_project
from backbeat.errors import ConfigError

# Of the first column, in the narrowest terminal.
LEAST_NAME_COLUMNS = 8

COLUMNS = {
    "F1 50 ms": "onset_f1",
    "25 ms": "strict_onset_f1",
    "with velocity": "onset_velocity_f1",
    "precision": "onset_precision",
    "recall": "onset_recall",
    "onsets": "onsets",
}


@dataclass(frozen=True)
class KnownSet:
    """A set that `make evaluate-pretrained` looks for: the end of its path, what it is, how to get it or its like."""

    path: str
    description: str
    how_to_get: str


KNOWN_SETS = (
    KnownSet(
        path="e-gmd-excerpt.zip",
        description="Performances of people that the packaged model has never heard, played by sampled kits that it "
        "has.",
        how_to_get="any archive of E-GMD's layout will do: backbeat datasets download egmd, then "
        "EVALUATE_ON=data/raw/egmd/e-gmd-v1.0.0.zip",
    ),
    KnownSet(
        path="held_out_kits.zip",
        description="Performances that the packaged model has never heard, played by kits that it has never heard.",
        how_to_get="render it: backbeat expand configs/kits/held-out-kits.yaml",
    ),
    KnownSet(
        path="held_out_kits_in_mix.zip",
        description="The same recordings, each with a band that plays along: the difference is what the music costs.",
        how_to_get="render it: backbeat expand configs/kits/held-out-kits-in-mix.yaml",
    ),
    KnownSet(
        path="shared/data/real",
        description="Drummers who were recorded in studios; what the packaged model has heard was all rendered.",
        how_to_get="git clone https://github.com/CarlSouthall/MDBDrums (CC BY-NC-SA 4.0), then EVALUATE_ON=MDBDrums; "
        "IDMT-SMT-Drums is at https://zenodo.org/records/7544164 (CC BY-NC-ND 4.0)",
    ),
)

Sets = Annotated[
    list[Path], typer.Argument(help="Archives of E-GMD's layout, and folders of recordings with annotations.")
]
Model = Annotated[Path | None, typer.Option(help="A model file. Default: the one that comes with the program.")]
Split = Annotated[str, typer.Option(help="Which split of an archive: train, validation or test.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write everything as JSON, here.", dir_okay=False)]
SkipAbsent = Annotated[bool, typer.Option("--skip-absent", help="Say what is not there, and score the rest.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    for command in (package_model, evaluate_model):
        app.command()(command)


def package_model(
    model: Annotated[Path, typer.Argument(help="A trained model, such as models/transcriber.safetensors.")],
    answer: Annotated[
        str | None, typer.Option(help="Class map to answer in if none is asked for. Default: as the model has it.")
    ] = None,
) -> None:
    """Make a trained model the one that comes with the program."""
    need_training_packages()
    from backbeat.transcription.packaged import package_model as run

    file, card = run(find_project(), model, answer)
    typer.echo(f"{file.name}  {file.stat().st_size:,} bytes, answers in {card.default_answer} by default")
    revision = card.provenance.revision
    if revision is None or revision.endswith("-dirty"):
        typer.echo("it was trained with code or settings that no commit has: commit them, and train it again", err=True)


def evaluate_model(
    sets: Sets,
    model: Model = None,
    split: Split = "test",
    json_file: JsonFile = None,
    skip_absent: SkipAbsent = False,
) -> None:
    """Score a model on recordings with annotations, in every class map that it answers in."""
    need_training_packages()
    from backbeat.transcription.annotated import read_set
    from backbeat.transcription.packaged import drums_here, packaged_model
    from backbeat.transcription.score import open_model, score_set, write_scores

    absent = [path for path in sets if not path.exists()]
    if absent and (not skip_absent or len(absent) == len(sets)):
        steps = "; or ".join(dict.fromkeys(_known(path).how_to_get for path in absent))
        raise ConfigError(
            "there is nothing to score" if len(absent) == len(sets) else "not everything is there to score",
            expected="archives and folders",
            got=f"no {', '.join(map(str, absent))}",
            next_step=steps or "name what is there",
        )
    drums = drums_here()
    # What is wrong with a set is said before hours are spent on another.
    chosen = [(path, one) for path in sets if path not in absent for one in read_set(path, split, drums)]
    scorer = open_model(model or packaged_model(), drums)
    console = Console(highlight=False)
    trained_on = scorer.card.provenance.dataset
    console.print(f"model {scorer.file.name}, trained on {trained_on} ({scorer.card.class_map})", markup=False)
    scored = []
    for path, one in chosen:
        scored.append(score_set(scorer, one))
        console.print()
        _print_set(console, scored[-1], _known(path).description if model is None else "")
    for path in absent:
        console.print(
            f"\n[bold]{escape(path.name)}[/] is not there: {escape(str(path))}\n{_known(path).description}",
            soft_wrap=True,
        )
        console.print(f"  next: {_known(path).how_to_get}", markup=False, soft_wrap=True)
    if json_file is not None:
        write_scores(json_file, scorer, scored, [path.name for path in absent])


def _known(path: Path) -> KnownSet:
    found = (known for known in KNOWN_SETS if path.absolute().as_posix().endswith(f"/{known.path}"))
    return next(found, KnownSet("", "", ""))


def _print_set(console: Console, score: dict[str, Any], description: str) -> None:
    kits = len(score.get("by_kit", ()))
    of_kits = f" of {kits} kit{'' if kits == 1 else 's'}" if kits else ""
    count = score["recordings"]
    size = f"{count:,} recording{'' if count == 1 else 's'}{of_kits}, {score['duration_s'] / 60:.1f} min"
    console.print(f"[bold]{escape(score['name'])}[/]: {escape(score['content'])}; {size}")
    if description:
        console.print(description, markup=False)
    shown = score["class_maps"][score["shown"]]
    console.print(_table(score, shown, console.width))
    if shown["not_scored"]:
        names = ", ".join(shown["not_scored"]).replace("_", " ")
        console.print(f"not told apart by the annotations, so not scored: {names}", markup=False, style="dim")
    passed_over = score["recordings_without_annotation"]
    if passed_over:
        console.print(f"passed over: recordings without an annotation: {passed_over:,}", markup=False, style="dim")
    unheard = score["annotations_without_recording"]
    if unheard:
        such = f"{len(unheard):,}, such as {unheard[0]}"
        console.print(f"passed over: annotations without a recording: {such}", markup=False, style="dim")


def _table(score: dict[str, Any], shown: dict[str, Any], width: int) -> Table:
    # In a narrow terminal names are shortened, not numbers.
    of_numbers = sum(len(column) + 2 for column in COLUMNS)
    of_names = max(LEAST_NAME_COLUMNS, width - of_numbers)
    parts = {**score.get("by_kit", {}), **score.get("by_recording", {})}
    labels = shortened([f"kit {name}" if "by_kit" in score else name for name in parts], of_names)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    table.add_column(score["shown"], overflow="fold", max_width=of_names)
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)

    def add(label: str, summary: dict[str, Any], style: str | None = None) -> None:
        cells = (_cell(summary.get(key)) for key in COLUMNS.values())
        table.add_row(escape(label), *cells, style=style)

    add("all hits (micro)", shown, "bold")
    add("classes (macro)", {key: shown.get(f"{key}_macro") for key in COLUMNS.values() if key.endswith("f1")})
    table.add_section()
    for name, summary in shown["by_class"].items():
        add(name.replace("_", " "), summary)
    table.add_section()
    others = {name: one for name, one in score["class_maps"].items() if name != score["shown"]}
    for label, summary in zip(_map_labels(others, of_names), others.values(), strict=True):
        add(label, summary)
    table.add_section()
    for label, key in (("kits heard in training", "kits_heard"), ("other kits", "kits_held_out")):
        if score.get(key):
            add(label, score[key])
    for name, summary in zip(labels, parts.values(), strict=True):
        add(name, summary)
    return table


def _map_labels(class_maps: dict[str, dict[str, Any]], columns: int) -> list[str]:
    """Return the names of class maps, each with how many of its classes are scored."""
    labels = []
    for name, scores in class_maps.items():
        all_of_them, not_told = scores["classes"], len(scores["not_scored"])
        of = f"{all_of_them - not_told} of " if not_told else ""
        labels.append(f"{name}, {of}{all_of_them} classes")
    if max(map(len, labels), default=0) <= columns:
        return labels
    return [label.removesuffix(" classes") if " of " in label else label for label in labels]


def shortened(names: list[str], columns: int) -> list[str]:
    """Return names of at most so many columns, cut as near to their middle as leaves no two alike.

    What no cut tells apart stays as it is, and is folded.
    """
    for head in sorted(range(columns), key=lambda head: abs(2 * head + 1 - columns)):
        tail = columns - 1 - head
        cut = [name if len(name) <= columns else f"{name[:head]}…{name[len(name) - tail :]}" for name in names]
        if len(set(cut)) == len(set(names)):
            return cut
    return names


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
