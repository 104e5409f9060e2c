"""`backbeat evaluate-model`: a model scored on recordings with annotations, whatever they are."""

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

# Of the first column, so that a table has at most 100 of them.
LABEL_COLUMNS = 38

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
    is_: str
    get: str


KNOWN_SETS = (
    KnownSet(
        path="e-gmd-excerpt.zip",
        is_="Performances of people that the packaged model has never heard, played by sampled kits that it has.",
        get="any archive of E-GMD's layout will do: backbeat datasets download egmd, then "
        "EVALUATE_ON=data/raw/egmd/e-gmd-v1.0.0.zip",
    ),
    KnownSet(
        path="held_out_kits.zip",
        is_="Performances that the packaged model has never heard, played by kits that it has never heard.",
        get="render it: backbeat expand configs/kits/held-out-kits.yaml",
    ),
    KnownSet(
        path="held_out_kits_in_mix.zip",
        is_="The same recordings, each with a band that plays along: the difference is what the music costs.",
        get="render it: backbeat expand configs/kits/held-out-kits-in-mix.yaml",
    ),
    KnownSet(
        path="shared/data/real",
        is_="Drummers who were recorded in studios; what the packaged model has heard was all rendered.",
        get="git clone https://github.com/CarlSouthall/MDBDrums (CC BY-NC-SA 4.0), then EVALUATE_ON=MDBDrums; "
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
    """Add the command of this module to the program."""
    app.command("evaluate-model")(evaluate_model)


def evaluate_model(
    sets: Sets,
    model: Model = None,
    split: Split = "test",
    json_file: JsonFile = None,
    skip_absent: SkipAbsent = False,
) -> None:
    """Score a model on recordings with annotations, in every class map that it answers in."""
    need_training_packages()
    from backbeat.drums.classes import load_drums
    from backbeat.transcription.annotated import read_set
    from backbeat.transcription.packaged import packaged_model
    from backbeat.transcription.score import open_model, score_set, write_scores

    absent = [path for path in sets if not path.exists()]
    if absent and (not skip_absent or len(absent) == len(sets)):
        steps = "; or ".join(dict.fromkeys(_known(path).get for path in absent))
        raise ConfigError(
            "there is nothing to score" if len(absent) == len(sets) else "not everything is there to score",
            expected="archives and folders",
            got=f"no {', '.join(map(str, absent))}",
            next_step=steps or "name what is there",
        )
    drums = load_drums(find_project())
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
        _print_set(console, scored[-1], _known(path).is_ if model is None else "")
    for path in absent:
        console.print(
            f"\n[bold]{escape(path.name)}[/] is not there: {escape(str(path))}\n{_known(path).is_}", soft_wrap=True
        )
        console.print(f"  next: {_known(path).get}", markup=False, soft_wrap=True)
    if json_file is not None:
        write_scores(json_file, scorer, scored, [path.name for path in absent])


def _known(path: Path) -> KnownSet:
    found = (known for known in KNOWN_SETS if path.absolute().as_posix().endswith(f"/{known.path}"))
    return next(found, KnownSet("", "", ""))


def _print_set(console: Console, score: dict[str, Any], is_: str) -> None:
    kits = len(score.get("by_kit", ()))
    of_kits = f" of {kits} kit{'' if kits == 1 else 's'}" if kits else ""
    count = score["recordings"]
    size = f"{count:,} recording{'' if count == 1 else 's'}{of_kits}, {score['duration_s'] / 60:.1f} min"
    console.print(f"[bold]{escape(score['name'])}[/]: {escape(score['content'])}; {size}")
    if is_:
        console.print(is_, markup=False)
    shown = score["class_maps"][score["shown"]]
    console.print(_table(score, shown, console.width))
    if shown["not_scored"]:
        names = ", ".join(shown["not_scored"]).replace("_", " ")
        console.print(f"not told apart by the annotations, so not scored: {names}", markup=False, style="dim")
    passed_over = score["recordings_without_annotation"]
    if passed_over:
        console.print(f"passed over: {passed_over:,} recordings without an annotation", markup=False, style="dim")


def _table(score: dict[str, Any], shown: dict[str, Any], width: int) -> Table:
    # In a narrow terminal names are cut, not numbers.
    of_numbers = sum(len(column) + 2 for column in COLUMNS)
    of_names = max(8, min(LABEL_COLUMNS, width - of_numbers))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    table.add_column(score["shown"], no_wrap=True, overflow="ellipsis", max_width=of_names)
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
    for name, summary in score["class_maps"].items():
        if name != score["shown"]:
            told = summary["classes"] - len(summary["not_scored"])
            of = f"{told} of {summary['classes']}" if summary["not_scored"] else f"{told}"
            add(f"{name}, {of} classes", summary)
    table.add_section()
    for label, key in (("kits heard in training", "kits_heard"), ("other kits", "kits_held_out")):
        if score.get(key):
            add(label, score[key])
    for name, summary in {**score.get("by_kit", {}), **score.get("by_recording", {})}.items():
        add(f"kit {name}" if "by_kit" in score else name, summary)
    return table


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
