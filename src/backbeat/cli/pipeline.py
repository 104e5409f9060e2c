"""The stages of `dvc.yaml` as commands, the transcriber, and the table of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from backbeat.config import find_project
from backbeat.errors import ConfigError

Workers = Annotated[int | None, typer.Option(help="Processes on this machine. Default: one per processor.", min=1)]
Cluster = Annotated[str | None, typer.Option(help="Address of a Dask scheduler to use instead: tcp://host:port.")]

_SET_NAMES = {
    "test": "test split",
    "seen_kits": "kits heard",
    "held_out_kits": "kits held out",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    for command in (preprocess, train, evaluate, metrics, transcribe):
        app.command()(command)


def preprocess(workers: Workers = None, cluster: Cluster = None) -> None:
    """Turn the raw archive into shards of spectrograms and onsets."""
    need_training_packages()
    from backbeat.drums import preprocess as stage

    result = stage.preprocess(find_project(), workers=workers, cluster=cluster)
    console = Console()
    table = Table("split", *("shards", "sequences", "hours", "onsets", "MB", "bytes/frame"), box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, row in [*result.report["splits"].items(), ("all", result.report["totals"])]:
        megabytes = f"{row['bytes'] / 1e6:.1f}"
        counts = (f"{row['shards']:,}", f"{row['sequences']:,}", f"{row['hours']:.2f}", f"{row['onsets']:,}")
        table.add_row(name, *counts, megabytes, f"{row['bytes_per_frame']:.1f}")
    console.print(table)
    console.print(
        f"{result.reused + result.made} shards: {result.reused} re-used, {result.made} made "
        f"from {result.read_sequences:,} sequences"
    )
    for number, kit in result.report["kits"].items():
        for pitch, count in kit["unmapped_pitches"].items():
            console.print(
                f"kit {number} ({kit['name']}): pitch {pitch} has no row in configs/drums.yaml, {count} onsets",
                style="yellow",
                markup=False,
            )
    for reason in result.report["skipped"].values():
        console.print(f"skipped: {reason}", style="yellow", markup=False)


def train(
    accelerator: Annotated[str, typer.Option(help="cpu, gpu, … as Lightning names them.")] = "auto",
    devices: Annotated[str, typer.Option(help="How many devices on each node.")] = "auto",
    nodes: Annotated[int, typer.Option(help="How many nodes.", min=1)] = 1,
    strategy: Annotated[str, typer.Option(help="A strategy of Lightning's, such as ddp.")] = "auto",
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard logs.")] = None,
) -> None:
    """Train the transcriber on the shards."""
    need_training_packages()
    from backbeat.transcription import train as stage
    from backbeat.transcription.trainer import Hardware

    hardware = Hardware(accelerator, devices, nodes, strategy)
    result = stage.train(find_project(), hardware=hardware, tensorboard=tensorboard)
    if not result.is_first:
        return
    continued = ", continued from a checkpoint" if result.resumed else ""
    Console().print(
        f"{result.parameters:,} parameters, {result.epochs} epochs{continued}, "
        f"validation onset F1 {result.validation_f1:.3f}",
        highlight=False,
    )


def evaluate() -> None:
    """Score the transcriber on the test split; writes reports/."""
    need_training_packages()
    from backbeat.transcription import evaluate as stage

    stage.evaluate(find_project())
    metrics()


def metrics() -> None:
    """Show the scores of the last evaluation."""
    path = find_project() / "reports" / "metrics.json"
    if not path.is_file():
        raise ConfigError(f"{path} is missing", next_step="make it: dvc repro, or fetch it: git checkout reports")
    Console().print(_score_table(json.loads(path.read_text(encoding="utf-8"))))


def transcribe(
    recordings: Annotated[list[Path], typer.Argument(help="Sound files: WAV, AIFF, FLAC, Ogg or MP3.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("transcriptions"),
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model file, such as the project's own, models/transcriber.safetensors. "
            "Default: the one that comes with the program."
        ),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Class map to answer in, such as adtof5. Default: the model's choice.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Also write the hits as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Also write the hits as JSON.")] = False,
) -> None:
    """Write a drum MIDI file for each recording."""
    need_training_packages()
    from backbeat.transcription.packaged import packaged_model
    from backbeat.transcription.transcribe import transcribe as run

    model_file = model or packaged_model()
    card, done = run(recordings, output, model_file, classes=classes, as_csv=as_csv, as_json=as_json)
    answer = card.answer(classes)
    # Plain lines: a name of a file is no markup, and is not broken.
    typer.echo(f"model {model_file.name}, trained on {card.provenance.dataset}")
    typer.echo(f"classes {', '.join(answer.classes)} ({answer.class_map})")
    for one in done:
        speed = one.duration_s / one.elapsed_s
        typer.echo(f"{one.midi}  {len(one.hits):,} hits in {one.duration_s:.1f} s of sound, {speed:.0f}x real time")


def _score_table(scores: dict[str, Any]) -> Table:
    sets = [name for name in _SET_NAMES if name in scores]
    title = f"onset F1 within {1000 * scores['onset_tolerance_s']:.0f} ms"
    table = Table(title, *(_SET_NAMES[name] for name in sets))
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [scores[name] for name in sets]
    for label, key in (("all hits (micro)", "onset_f1"), ("classes (macro)", "onset_f1_macro"),
                       ("with velocity (micro)", "onset_velocity_f1")):  # fmt: skip
        table.add_row(label, *(_score(row[key]) for row in rows), style="bold" if key == "onset_f1" else None)
    table.add_section()
    for drum in rows[0]["onset_f1_by_class"]:
        table.add_row(drum.replace("_", " "), *(_score(row["onset_f1_by_class"].get(drum)) for row in rows))
    table.add_section()
    table.add_row("sequences", *(f"{row['sequences']:,}" for row in rows))
    table.add_row("onsets", *(f"{row['onsets']:,}" for row in rows))
    return table


def _score(f1: float | None) -> str:
    return "-" if f1 is None else f"{f1:.3f}"


def need_training_packages() -> None:
    """Raise a ConfigError that says how to get PyTorch, if it is not installed."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise ConfigError(
            "this command needs PyTorch, which is not installed",
            expected="the extra [train]",
            got="the base package",
            next_step="pip install '.[train]', or make setup",
        )
