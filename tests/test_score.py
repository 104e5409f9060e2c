"""A model scored on sets: what is found in archives and folders, what is counted, what is shown."""

import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from backbeat.cli.app import app
from backbeat.cli.pretrained import KNOWN_SETS, shortened
from backbeat.config import load_params
from backbeat.drums.classes import DrumTable, class_map, load_drums
from backbeat.errors import BackbeatError, ModelError
from backbeat.transcription import score as module
from backbeat.transcription.annotated import AnnotatedSet, Recording, _nearest, read_set
from backbeat.transcription.annotations import reference_by_class, told_apart
from backbeat.transcription.answers import untuned_answers
from backbeat.transcription.decode import Peaks
from backbeat.transcription.model import DrumCRNN
from backbeat.transcription.score import count, open_model, score_set, summary, write_scores
from backbeat.transcription.weights import ModelCard, Provenance, save_model
from small_project import (
    REPOSITORY,
    TABLE,
    Performance,
    archive_of,
    contents_of,
    midi,
    new_project,
    rows_of,
    table_of,
    wav,
    write_zip,
)
from test_metrics import estimate, reference

DRUMS = load_drums(REPOSITORY)
REAL = REPOSITORY.parent / "shared" / "data" / "real"
NATIVE = "drums10"

# Two performances of the test split, of 4 and 5 hits: pitches 36, 42, 38, 46 and 36, 51, 53, 49, 38.
PLAYED = (Performance(1, 1, "train", 0.8), Performance(2, 2, "test", 0.9))
MORE = Performance(2, 3, "test", 1.2, (36, 51, 53, 49, 38))


def untrained(path: Path, native_map: str) -> Path:
    """Write a small model that has learned nothing and answers all the time."""
    torch.manual_seed(0)
    features = load_params(REPOSITORY).preprocess.features
    native = class_map(DRUMS, native_map)
    network = DrumCRNN(features.mels, len(native.classes), 4, 4, 0.0)
    torch.nn.init.ones_(network.onset.bias)
    provenance = Provenance(
        dataset="small", license="MIT", data="", class_of_pitch="", held_out_kits=[2], train={},
        onset_tolerance_s=0.05, revision=None,
    )  # fmt: skip
    card = ModelCard(
        format_version=2, features=features, class_map=native_map, classes=list(native.classes),
        answers={answer.class_map: answer for _, answer in untuned_answers(DRUMS, native)}, default_answer=native_map,
        channels=4, recurrent_units=4, provenance=provenance,
    )  # fmt: skip
    save_model(network, card, path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("models") / "untrained.safetensors", NATIVE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose archive has two kits and, for each, two performances of the test split."""
    return new_project(tmp_path / "project", contents_of((1, 2), (*PLAYED, MORE)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two recordings of MDB Drums, one of IDMT-SMT-Drums and a mix that nobody annotated."""
    real = tmp_path / "real"
    real.mkdir()
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 44_100)
    for name in ("X_Drum", "Y_Drum", "X_MIX", "loop#MIX"):
        (real / f"{name}.wav").write_bytes(wav(noise))
    (real / "X_class.txt").write_text("0.1\tKD\n")
    (real / "X_subclass.txt").write_text("0.1\tKD\n0.2\tCHH\n0.2\tCRC\n0.9\tTMB\n")
    (real / "Y_subclass.txt").write_text("0.4\tSST\n0.5\tMHT\n")
    (real / "loop#MIX.txt").write_text("0.1\tKD\n0.2\tHH\n0.3\tHH\n")
    return real


def oracle(chosen: AnnotatedSet, late_s: float) -> Callable[..., list[Peaks]]:
    """Return what answers, instead of the model, what is played in one recording of a set after the other."""
    annotations = iter([recording.load()[1] for recording in chosen.recordings])

    def peaks_by_map(*given: Any) -> list[Peaks]:
        annotation = next(annotations)
        peaks = []
        for rows in (DRUMS.class_maps[answer.class_map] for answer in given[-1]):
            played = reference_by_class(annotation, rows, told_apart(annotation.labels, rows))
            hits = [
                (onset_s + late_s, index, 1.0, velocity / 127)
                for index, (times, velocities) in enumerate(played)
                for onset_s, velocity in zip(times, velocities, strict=True)
            ]
            peaks.append(estimate(*hits))
        return peaks

    return peaks_by_map


def test_scores_by_hand() -> None:
    expected = reference([(1.0, 40), (2.0, 100)], [(3.0, 100)])
    hits = estimate((1.02, 0, 1, 40 / 127), (2.04, 0, 1, 100 / 127), (3.0, 1, 1, 100 / 127), (4.0, 1, 1, 1))
    both = count(expected, hits, with_velocity=True)
    # 3 found, 1 too many; within 25 ms 2 found, 2 too many, 1 missed.
    assert summary(both) == {
        "onsets": 3,
        "estimated": 4,
        "onset_f1": round(6 / 7, 4),
        "strict_onset_f1": round(4 / 7, 4),
        "onset_velocity_f1": round(6 / 7, 4),
        "onset_precision": 0.75,
        "onset_recall": 1.0,
    }
    assert summary(both.of_class(0))["strict_onset_f1"] == 0.5
    twice = both + both
    assert (twice.onset.found.tolist(), twice.strict.missed.tolist()) == ([4, 2], [2, 0])
    unheard = count(reference([], []), hits.where(np.zeros(4, bool)), with_velocity=False)
    assert set(summary(unheard).values()) == {0, None}


def test_of_an_archive_the_test_split_is_scored_by_kit(project: Path, model: Path) -> None:
    (chosen,) = read_set(archive_of(project), "test", DRUMS)
    scorer = open_model(model, DRUMS)
    score = score_set(scorer, chosen)
    assert (score["recordings"], score["duration_s"], score["shown"]) == (4, 4.2, NATIVE)
    assert list(score["class_maps"]) == [NATIVE, "groove9", "drums7", "oaf8", "adtof5", "hits3"]
    for name, hits in {NATIVE: 18, "adtof5": 18, "hits3": 18}.items():
        assert score["class_maps"][name]["onsets"] == hits
        assert score["class_maps"][name]["not_scored"] == []
    by_class = score["class_maps"][NATIVE]["by_class"]
    assert {name: one["onsets"] for name, one in by_class.items() if one["onsets"]} == {
        "kick": 4, "snare": 4, "hat_closed": 2, "hat_open": 2, "crash": 2, "ride": 2, "bell": 2,
    }  # fmt: skip
    assert score["class_maps"]["adtof5"]["by_class"]["cymbals"]["onsets"] == 6
    assert {name: one["onsets"] for name, one in score["by_kit"].items()} == {
        "01 Acoustic Kit": 9, "02 Studio (Live Room)": 9,
    }  # fmt: skip
    # The archive is in data/raw of the data set that the model is of, which held out kit 2.
    assert (score["kits_heard"], score["kits_held_out"]) == tuple(score["by_kit"].values())
    elsewhere = shutil.copy(archive_of(project), project / "other.zip")
    assert "kits_heard" not in score_set(scorer, read_set(elsewhere, "test", DRUMS)[0])
    # A kit that is in the test split alone was not heard, either.
    alone = {**contents_of((1,), PLAYED), **contents_of((10,), (MORE,))}
    alone[TABLE] = table_of([*rows_of(contents_of((1,), PLAYED)), *rows_of(contents_of((10,), (MORE,)))])
    score = score_set(scorer, read_set(write_zip(project / "small.zip", alone), "test", DRUMS)[0])
    assert [score[key]["onsets"] for key in ("kits_heard", "kits_held_out")] == [4, 5]


def test_what_is_right_is_right_in_every_map_and_late_by_30_ms_within_50_alone(
    project: Path, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = open_model(model, DRUMS)
    sets = [*read_set(archive_of(project), "test", DRUMS), *read_set(folder, "test", DRUMS)]
    for chosen in sets:
        monkeypatch.setattr(module, "peaks_by_map", oracle(chosen, 0.0))
        exact = score_set(scorer, chosen)
        monkeypatch.setattr(module, "peaks_by_map", oracle(chosen, 0.03))
        late = score_set(scorer, chosen)
        for name in exact["class_maps"]:
            one, other = exact["class_maps"][name], late["class_maps"][name]
            assert (one["onset_f1"], one["strict_onset_f1"], one["onset_f1_macro"]) == (1.0, 1.0, 1.0)
            assert (other["onset_f1"], other["strict_onset_f1"]) == (1.0, 0.0)
            assert one["onset_velocity_f1"] == (1.0 if chosen.has_velocity else None)


def test_recordings_of_a_folder_are_scored_by_format(folder: Path, model: Path) -> None:
    idmt, mdb = (score_set(open_model(model, DRUMS), one) for one in read_set(folder, "test", DRUMS))
    assert (mdb["content"], mdb["recordings"]) == ("annotations of MDB Drums, subclasses", 2)
    assert mdb["recordings_without_annotation"] == 1
    assert {name: one["onsets"] for name, one in mdb["by_recording"].items()} == {"X_Drum": 3, "Y_Drum": 1}
    assert mdb["class_maps"][NATIVE]["not_scored"] == ["tom_high", "tom_mid"]
    assert mdb["class_maps"]["adtof5"]["onsets"] == 5
    # The tambourine is a hi-hat to this map, and nothing to the others.
    assert mdb["class_maps"]["drums7"]["by_class"]["hi_hat"]["onsets"] == 2
    assert idmt["shown"] == "drums7"
    assert idmt["class_maps"]["drums7"]["not_scored"] == ["toms", "crash", "ride", "bell"]
    assert list(idmt["class_maps"][NATIVE]["by_class"]) == ["kick", "snare"]
    # A model that answers all the time is wrong for it only in what is scored.
    by_class = idmt["class_maps"]["drums7"]["by_class"]
    assert set(by_class) == {"kick", "snare", "hi_hat"}
    assert idmt["class_maps"]["drums7"]["estimated"] == sum(one["estimated"] for one in by_class.values()) > 3


def test_the_own_map_is_shown_rather_than_one_with_a_class_that_is_never_answered(project: Path, folder: Path) -> None:
    scorer = open_model(untrained(project / "seven.safetensors", "drums7"), DRUMS)
    for chosen in (*read_set(archive_of(project), "test", DRUMS), *read_set(folder, "test", DRUMS)):
        score = score_set(scorer, chosen)
        assert score["shown"] == "drums7"
        assert list(score["class_maps"]) == ["drums7", "oaf8", "hits3"]


def test_each_map_has_thresholds_of_its_own(folder: Path, model: Path) -> None:
    scorer = open_model(model, DRUMS)
    strict = scorer.card.answers["adtof5"].model_copy(update={"thresholds": [1.0, 0.0, 0.0, 0.0, 0.0]})
    card = scorer.card.model_copy(update={"answers": {**scorer.card.answers, "adtof5": strict}})
    (_, mdb) = read_set(folder, "test", DRUMS)
    maps = score_set(replace(scorer, card=card), mdb)["class_maps"]
    assert maps["adtof5"]["by_class"]["kick"]["estimated"] == 0
    assert all(maps[name]["by_class"]["kick"]["estimated"] > 0 for name in maps if name != "adtof5")


def test_sound_and_annotations_may_lie_apart(tmp_path: Path) -> None:
    for name in ("audio/X_Drum.wav", "audio/Y_Drum.wav", "own/take.wav", "other/take.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(wav(np.zeros(4_410) + 0.1))
    (tmp_path / "annotations" / "subclass").mkdir(parents=True)
    (tmp_path / "annotations" / "subclass" / "X_subclass.txt").write_text("0.05\tKD\n")
    (tmp_path / "annotations" / "X_class.txt").write_text("0.05\tKD\n")
    (tmp_path / "annotations" / "Y_class.txt").write_text("0.05\tKD\n")
    # That of one take is not that of another of the same name.
    (tmp_path / "own" / "take.mid").write_bytes(midi((36,)))
    found = read_set(tmp_path, "test", DRUMS)
    assert {(one.content, *(recording.name for recording in one.recordings)) for one in found} == {
        ("annotations of MDB Drums, subclasses", "audio/X_Drum"),
        ("annotations of MDB Drums, classes", "audio/Y_Drum"),
        ("annotations of MIDI", "own/take"),
    }
    assert {one.passed_over for one in found} == {1}
    assert {one.unheard for one in found} == {()}


def test_annotations_without_a_recording_are_counted_and_other_files_are_not(folder: Path) -> None:
    for name, content in {"x_subclass.txt": "0.1\tKD\n", "README.txt": "Read me.\n", "z.csv": "a,b\n"}.items():
        (folder / "gone").mkdir(exist_ok=True)
        (folder / "gone" / name).write_text(content)
    (folder / "W_class.txt").write_text("0.1\tKD\n")
    # That of X lies beside its recording, so the one in the other folder is of another.
    assert {one.unheard for one in read_set(folder, "test", DRUMS)} == {("W_class.txt", "gone/x_subclass.txt")}


def test_small_and_capital_letters_are_the_same_where_that_is_not_ambiguous(tmp_path: Path) -> None:
    for name in ("X_DRUM.WAV", "Take.Wav"):
        (tmp_path / name).write_bytes(wav(np.zeros(4_410) + 0.1))
    (tmp_path / "x_SUBCLASS.TXT").write_text("0.05\tKD\n")
    (tmp_path / "TAKE.MID").write_bytes(midi((36,)))
    mdb, midi_set = read_set(tmp_path, "test", DRUMS)
    assert [one.recordings[0].name for one in (midi_set, mdb)] == ["Take", "X_DRUM"]
    assert (mdb.passed_over, mdb.unheard) == (0, ())
    # Not every file system can have both.
    both = {"take.mid": [Path("take.mid"), Path("TAKE.MID")]}
    with pytest.raises(BackbeatError, match=r"take\.mid is there several times"):
        _nearest("take.mid", Path("take.wav"), both)


def test_a_file_that_is_no_archive_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(wav(np.zeros(4_410) + 0.1))
    with pytest.raises(BackbeatError, match=r"song\.wav is a file of its own\n(.|\n)*next: put the recording and its"):
        read_set(tmp_path / "song.wav", "test", DRUMS)


def test_a_recording_without_hits_in_which_nothing_is_found_is_not_among_the_worst() -> None:
    recording = Recording("", (1, "Kit"), 1.0, lambda: (b"", None))  # type: ignore[arg-type,return-value]
    hits = estimate((1.0, 0, 1, 1))
    by_name = {
        "a silent": count(reference([]), hits.where(np.zeros(1, bool)), with_velocity=False),
        "b right": count(reference([(1.0, 100)]), hits, with_velocity=False),
        "c wrong": count(reference([]), hits, with_velocity=False),
    }
    scored = [module._Scored(replace(recording, name=name), (one,)) for name, one in by_name.items()]
    assert list(module._by_recording(scored, 0)["worst_recordings"]) == ["c wrong", "b right", "a silent"]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["MusicDelta_Rock_Drum", "abc"], ["Musi…_Drum", "abc"]),
        (["session3/122_fill_1", "session3/122_fill_2"], ["sess…ill_1", "sess…ill_2"]),
        (["one_kit_of_many_kits", "two_kit_of_many_kits"], ["one_…_kits", "two_…_kits"]),
        (["session3/122_fill_1", "session4/122_fill_1"], ["session3…1", "session4…1"]),
        (["the same words, 1, and the same", "the same words, 2, and the same"], []),
    ],
)
def test_what_tells_long_names_apart_remains(names: list[str], short: list[str]) -> None:
    assert shortened(names, 10) == (short or names)


def flac() -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.zeros(4_410), 44_100, format="FLAC")
    return content.getvalue()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"has nothing to score\n.*\n  got: sound files without annotations: 1; annotations"),
        ({"take.mid": midi((36,)), "take.csv": b"onset_s,pitch\n0,36\n"}, r"take\.wav has several annotations"),
        ({"take.csv": b"onset_s,pitch\n0,36\n0.7,36\n"}, r"take\.csv is not that of take\.wav\n.*0\.10 s\n.*0\.70 s"),
        (
            {"a/take.txt": b"0\tKD\n", "b/take.txt": b"0\tKD\n"},
            r"take\.txt is there several times\n.*\n.*a/take\.txt, b",
        ),
        ({"take.txt": b"0\tKD\n0.1\tRD\n"}, r"take\.txt, line 2"),
        ({"take.mid": midi((99,))}, r"take\.mid has no hits"),
        ({"take.txt": b"0\tKD\n", "take.flac": flac()}, "take is there twice"),
    ],
)
def test_a_folder_that_cannot_be_scored_is_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    (tmp_path / "take.wav").write_bytes(wav(np.zeros(4_410) + 0.1))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BackbeatError, match=message):
        read_set(tmp_path, "test", DRUMS)


def test_a_split_that_an_archive_does_not_have_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", contents_of((1,), PLAYED))
    with pytest.raises(BackbeatError, match=r"x\.zip has no split validation\n.*\n  got: train, test"):
        read_set(archive, "validation", DRUMS)


def test_a_class_map_that_is_no_longer_that_of_the_model_is_refused(model: Path) -> None:
    maps = {**DRUMS.class_maps, "adtof5": dict(list(DRUMS.class_maps["adtof5"].items())[:4])}
    with pytest.raises(ModelError, match=r"class map adtof5 of configs/drums\.yaml is not that of untrained"):
        open_model(model, DRUMS.model_copy(update={"class_maps": maps}))


def test_the_same_model_and_sets_are_the_same_file_wherever_they_lie(folder: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere" / folder.name)
    for place in (folder, tmp_path / "elsewhere" / folder.name):
        scorer = open_model(model, DRUMS)
        scores = [score_set(scorer, one) for one in read_set(place, "test", DRUMS)]
        write_scores(place.parent / "scores.json", scorer, scores, ["gone.zip"])
    content = (tmp_path / "scores.json").read_text()
    assert content == (tmp_path / "elsewhere" / "scores.json").read_text()
    assert str(tmp_path) not in content


def test_the_command_shows_a_table_for_each_set_and_says_what_is_absent(
    project: Path, folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("COLUMNS", "100")
    held_out = "data/own/held_out_kits.zip"
    arguments = ["evaluate-model", "--model", str(model), "data/raw/small/small.zip", held_out, str(folder)]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, BackbeatError)
    assert "backbeat expand" in str(refused.exception)
    shown = CliRunner().invoke(app, [*arguments, "--skip-absent", "--json", "reports/pretrained.json"])
    assert shown.exception is None, shown.output
    lines = [line.rstrip() for line in shown.output.splitlines()]
    # What is to be typed stands in a line of its own, however long.
    assert all(len(line) <= 100 for line in lines if not line.startswith("  next: "))
    assert "small.zip: test split, E-GMD's layout; 4 recordings of 2 kits, 0.1 min" in lines
    header = ["F1", "50", "ms", "25", "ms", "with", "velocity", "precision", "recall", "onsets"]
    assert [NATIVE, *header] in [line.split() for line in lines]
    rows = {line.split("  ")[0]: line.split()[-1] for line in lines if "  " in line}
    assert {name: rows[name] for name in ("tom mid", "adtof5, 5 classes", "other kits", "X_Drum", "Y_Drum")} == {
        "tom mid": "0", "adtof5, 5 classes": "5", "other kits": "9", "X_Drum": "3", "Y_Drum": "1",
    }  # fmt: skip
    assert "held_out_kits.zip is not there: data/own/held_out_kits.zip" in lines
    assert any(line.startswith("  next: ") and "backbeat expand" in line for line in lines)
    content = json.loads((project / "reports" / "pretrained.json").read_text())
    assert [one["name"] for one in content["sets"]] == ["small.zip", "real", "real"]
    assert content["absent"] == ["held_out_kits.zip"]


def test_what_make_scores_on_is_known_to_the_command() -> None:
    (listed,) = re.findall(r"^EVALUATE_ON \?= (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    ends = [known.path for known in KNOWN_SETS]
    assert len(listed.split()) == len(ends)
    assert all(path.endswith(end) for path, end in zip(listed.split(), ends, strict=True))


@pytest.mark.skipif(not REAL.exists(), reason="shared/data/real is not beside the repository")
def test_real_annotations_are_read_to_the_last_hit() -> None:
    idmt, mdb = read_set(REAL, "test", DRUMS)
    assert (len(idmt.recordings), len(mdb.recordings)) == (1, 3)
    rows = DRUMS.class_maps["adtof5"]
    totals = np.zeros(len(rows), int)
    for recording in mdb.recordings:
        found = reference_by_class(recording.load()[1], rows, told_apart(mdb.labels, rows))
        totals += [len(onset_s) for onset_s, _ in found]
    by_class = [line.split()[1] for path in sorted(REAL.glob("*_class.txt")) for line in path.read_text().splitlines()]
    # Side sticks are snares in the subclasses, and OT in the classes; these three recordings have nothing else there.
    counted = {label: by_class.count(label) for label in ("KD", "SD", "OT", "TT", "HH", "CY")}
    assert dict(zip(rows, totals.tolist(), strict=True)) == {
        "kick": counted["KD"],
        "snare": counted["SD"] + counted["OT"],
        "toms": counted["TT"],
        "hi_hat": counted["HH"],
        "cymbals": counted["CY"],
    }


def test_a_map_whose_instruments_have_moved_is_refused(model: Path) -> None:
    moved = DRUMS.model_dump()
    moved["class_maps"]["adtof5"]["snare"]["instruments"] += ["tom_low"]
    moved["class_maps"]["adtof5"]["toms"]["instruments"].remove("tom_low")
    with pytest.raises(ModelError, match="the class map adtof5"):
        open_model(model, DrumTable.model_validate(moved))
