"""Sequences to look at and to listen to: the worst of the evaluation, and a typical one to hear them against.

A spectrogram comes out of the shards, a sound out of the raw archive, and the hits out of the model, which is run on
these sequences only. Where one of them is absent, or is not what was evaluated, the page says so, and what brings it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from backbeat.datasets.packed.archives import read_member
from backbeat.datasets.registry import Record
from backbeat.drums.egmd import find_archive, read_index
from backbeat.errors import BackbeatError
from backbeat.report.evaluation import Evaluation
from backbeat.report.hits import Excerpt
from backbeat.report.sound import mp3_excerpt


@dataclass(frozen=True)
class Absent:
    """A part of the page that cannot be made.

    Args:
        part: what is absent.
        reason: why, in a sentence.
        next_step: what brings it; None where nothing does.
    """

    part: str
    reason: str
    next_step: str | None


def listen(
    project: Path, evaluation: Evaluation | None, record: Record, *, embed_restricted: bool
) -> tuple[tuple[Excerpt, ...], tuple[Absent, ...]]:
    """Return what can be shown, and what cannot, and why.

    Args:
        project: root of the repository, with shards, model and raw data as they are in the workspace.
        evaluation: what is reported on.
        record: of the dataset that it was evaluated on.
        embed_restricted: whether data that its license forbids to hand on is put into the page all the same.
    """
    part = "spectrograms and sound"
    if not record.license.redistribute and not embed_restricted:
        reason = f"The license of {record.title} ({record.license.id}) does not allow its data to be handed on."
        step = "for a page that stays with you: backbeat report --embed-restricted"
        return (), (Absent(part, reason, step),)
    if find_spec("torch") is None:
        step = "pip install '.[train]', or make setup"
        return (), (Absent(part, "PyTorch, which runs the model, is not installed.", step),)
    if evaluation is None or evaluation.worst_sequences is None:
        reason = "The evaluation does not name the worst sequences."
        return (), (Absent(part, reason, "make one that does: dvc repro"),)
    from backbeat.report.excerpts import transcribed_excerpts

    try:
        shown = transcribed_excerpts(project, evaluation)
    except BackbeatError as error:
        return (), (_absent(part, error),)
    try:
        return with_sound(project, record.name, shown)
    except BackbeatError as error:
        return shown, (_absent("sound", error),)


def with_sound(
    project: Path, dataset: str, shown: tuple[Excerpt, ...]
) -> tuple[tuple[Excerpt, ...], tuple[Absent, ...]]:
    """Return excerpts with their sound, but for those of which the raw archive holds another recording or none.

    Raises:
        BackbeatError: if there is no archive, or it is damaged.
    """
    archive = find_archive(project / "data" / "raw" / dataset)
    recordings = {(one.id, one.wav.crc32): one.wav for one in read_index(archive)}
    heard, silent = [], []
    for one in shown:
        wav = recordings.get((one.id, one.wav_crc32))
        if wav is None:
            silent.append(one.id)
            heard.append(one)
        else:
            heard.append(replace(one, mp3=mp3_excerpt(read_member(archive, wav), one.id, one.start_s, one.length_s)))
    if not silent:
        return tuple(heard), ()
    reason = f"{archive.name} does not hold the recordings that were evaluated, but others or none."
    step = f"dvc repro data/dvc.yaml:download@{dataset}, then dvc repro"
    return tuple(heard), (Absent(f"sound of {', '.join(silent)}", reason, step),)


def _absent(part: str, error: BackbeatError) -> Absent:
    return Absent(part, f"{error.what[0].upper()}{error.what[1:]}.", error.next_step)
