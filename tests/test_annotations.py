"""Annotations: what files say, what they are refused for, and which classes of a map they can score."""

import re
from pathlib import Path

import mido
import numpy as np
import pytest

from backbeat.drums.classes import class_map, load_drums
from backbeat.drums.midi import Onsets, write_onsets
from backbeat.errors import BackbeatError
from backbeat.transcription.annotation_formats import (
    FORMATS,
    IDMT_CLASSES,
    MDB_CLASSES,
    MDB_SUBCLASSES,
    read_annotation,
)
from backbeat.transcription.annotations import annotation_of_onsets, reference_by_class, told_apart
from backbeat.transcription.dataset import reference_by_class as reference_of_pipeline
from small_project import REPOSITORY

DRUMS = load_drums(REPOSITORY)
XML = (
    '<?xml version="1.0"?>\n<instrumentRecording>\n<globalParameter><instrument>Set</instrument></globalParameter>\n'
    "<transcription>\n{}</transcription>\n</instrumentRecording>\n"
)
EVENT = "<event><pitch>1</pitch><onsetSec>{}</onsetSec><offsetSec>9</offsetSec><instrument>{}</instrument></event>\n"


def times_of(folder: Path, name: str, content: str | bytes, map_name: str) -> dict[str, list[float] | None]:
    """Return the reference onsets of each class of a map; None for one that is not scored."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    _, annotation = read_annotation(folder / name, DRUMS)
    classes = DRUMS.class_maps[map_name]
    scored = told_apart(annotation.labels, classes)
    reference = reference_by_class(annotation, classes, scored)
    assert not any(len(onset_s) for (onset_s, _), is_scored in zip(reference, scored, strict=True) if not is_scored)
    return {
        name: onset_s.tolist() if is_scored else None
        for name, (onset_s, _), is_scored in zip(classes, reference, scored, strict=True)
    }


def test_mdb_drums_in_the_classes_that_published_results_are_for(tmp_path: Path) -> None:
    lines = "0.50 \t KD \n0.51 \t SST \n0.60 \t TMB \n\n0.7\tMHT\n0.8\tLFT\n0.9 \t PHH\n1 \t CHC\n1.1\tRDB\n0.3\tSDNS\n"
    assert times_of(tmp_path, "X_subclass.txt", lines, "adtof5") == {
        "kick": [0.5],
        "snare": [0.3, 0.51],
        "toms": [0.7, 0.8],
        "hi_hat": [0.9],
        "cymbals": [1.0, 1.1],
    }


def test_hits_at_one_time_count_once_in_a_class_and_those_beside_it_do_not_vanish(tmp_path: Path) -> None:
    lines = "1.000 \t CRC\n1.000 \t CHC\n1.004 \t SPC\n"
    assert times_of(tmp_path, "X_subclass.txt", lines, "adtof5")["cymbals"] == [1.0, 1.004]


def test_classes_that_labels_cannot_tell_apart_are_not_scored(tmp_path: Path) -> None:
    lines = "0.1\tKD\n0.2\tHH\n0.3\tCY\n0.4\tTT\n0.5\tOT\n0.6\tSD\n"
    fine = times_of(tmp_path, "X_class.txt", lines, "drums10")
    assert {name for name, times in fine.items() if times is not None} == {"kick", "snare"}
    coarse = times_of(tmp_path, "X_class.txt", lines, "adtof5")
    assert coarse == {"kick": [0.1], "snare": [0.6], "toms": [0.4], "hi_hat": [0.2], "cymbals": [0.3]}


@pytest.mark.parametrize("name", ["loop.txt", "loop.xml"])
def test_of_idmt_only_its_three_classes_are_scored(tmp_path: Path, name: str) -> None:
    rows = [("0.5", "HH"), ("0.25", "SD"), ("0.125", "KD")]
    text = "".join(f"{time}\t{label}\n" for time, label in rows)
    content = text if name.endswith("txt") else XML.format("".join(EVENT.format(*row) for row in rows))
    found = times_of(tmp_path, name, content, "drums7")
    assert found == dict.fromkeys(("toms", "crash", "ride", "bell")) | {
        "kick": [0.125],
        "snare": [0.25],
        "hi_hat": [0.5],
    }
    assert times_of(tmp_path, name, content, "drums10")["hat_closed"] is None


def test_every_label_means_instruments_that_there_are() -> None:
    instruments = set(DRUMS.pitches.values())
    assert len(MDB_SUBCLASSES) == 21
    for labels in (MDB_SUBCLASSES, MDB_CLASSES, IDMT_CLASSES):
        assert {one for meant in labels.values() for one in meant} <= instruments


def test_midi_is_scored_as_the_pipeline_scores_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    onset_s = np.sort(rng.integers(0, 4_000, 400) / 960).astype(np.float32)  # ticks, so many within a frame
    pitch = rng.choice([*DRUMS.pitches, 99], 400).astype(np.uint8)
    onsets = Onsets(onset_s, pitch, rng.integers(1, 128, 400).astype(np.uint8))
    annotation = annotation_of_onsets(onsets, DRUMS)
    for name, rows in DRUMS.class_maps.items():
        scored = told_apart(annotation.labels, rows)
        assert scored.all()
        ours = reference_by_class(annotation, rows, scored)
        theirs = reference_of_pipeline(onsets, class_map(DRUMS, name), 100.0)
        for (mine, my_velocity), (expected, velocity) in zip(ours, theirs, strict=True):
            assert mine.tolist() == expected.tolist()
            assert my_velocity.tolist() == velocity.tolist()
    write_onsets(onsets, tmp_path / "take.mid")
    assert read_annotation(tmp_path / "take.mid", DRUMS)[0] == "MIDI"


def test_of_a_song_the_notes_of_channel_10_are_drums_and_of_drums_alone_all_channels(tmp_path: Path) -> None:
    def onsets_of(*channels: int) -> list[float]:
        song = mido.MidiFile(type=1, ticks_per_beat=480)
        # The tempo doubles after the first beat, in a track of its own.
        changes = [
            mido.MetaMessage("set_tempo", tempo=tempo, time=480 * (tempo < 500_000)) for tempo in (500_000, 250_000)
        ]
        song.tracks.append(mido.MidiTrack(changes))
        for index, channel in enumerate(channels):
            note = {"channel": channel, "note": 36}
            beats = [mido.Message("note_on", velocity=90, time=480 * (1 + index), **note),
                     mido.Message("note_off", time=120, **note),
                     mido.Message("note_on", velocity=90, time=360, **note)]  # fmt: skip
            song.tracks.append(mido.MidiTrack([mido.MetaMessage("track_name", name=str(index)), *beats]))
        song.save(str(tmp_path / "song.mid"))
        return read_annotation(tmp_path / "song.mid", DRUMS)[1].onset_s.tolist()

    assert onsets_of(0, 9) == [0.75, 1.0]
    assert onsets_of(9) == [0.5, 0.75]
    assert onsets_of(0, 3) == [0.5, 0.75, 0.75, 1.0]


def test_a_table_has_pitches_or_classes_and_perhaps_velocities(tmp_path: Path) -> None:
    by_pitch = "onset_s,pitch,velocity\n0.5,36,100\n0.504,36,120\n0.2,46,1\n"
    assert times_of(tmp_path, "take.csv", by_pitch, "groove9")["kick"] == [0.5]
    _, annotation = read_annotation(tmp_path / "take.csv", DRUMS)
    assert annotation.velocity is not None
    assert annotation.velocity.tolist() == [1, 100, 120]
    # As a transcription is written, with columns that say nothing here. Every map has hi-hats in its hi-hat, one more.
    by_class = "onset_s,class,note,probability\n0.5,hi_hat,42,0.9\n0.7,crash,49,0.8\n"
    assert times_of(tmp_path, "take.csv", by_class, "drums7")["hi_hat"] == [0.5]
    fine = times_of(tmp_path, "take.csv", by_class, "drums10")
    assert (fine["hat_closed"], fine["hat_open"], fine["crash"], fine["ride"]) == (None, None, [0.7], [])
    assert read_annotation(tmp_path / "take.csv", DRUMS)[1].velocity is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("X_subclass.txt", "0.1\tKD\n0.2\tXX\n", r"X_subclass\.txt, line 2\n  expected: one of KD, SD.*\n  got: XX"),
        ("X_class.txt", "0.1\tKD\n\n0.2\tCHH\n", r"line 3\n  expected: one of KD, SD, HH"),
        ("X_class.txt", "0.1\tKD\nKD\n", r"line 2\n  expected: seconds and a label"),
        ("X_class.txt", "0.1\tKD\n-0.1\tKD\n", r"line 2\n  expected: seconds from the beginning"),
        ("X_class.txt", "nan\tKD\n", r"line 1\n  expected: seconds\n  got: nan"),
        ("X_class.txt", " \n", "has no hits"),
        ("X_class.txt", b"0.1\tKD\n\xff", "is no text"),
        ("loop.txt", "0.1\tKD\n0.2\tTT\n", r"loop\.txt, line 2\n  expected: one of KD, SD, HH\n  got: TT"),
        ("loop.xml", XML.format(EVENT.format("0.1", "KD") + EVENT.format("0.2", "TT")), r"loop\.xml, line 6\n"),
        ("loop.xml", XML.format(EVENT.format("", "KD")), r"line 5\n  expected: seconds\n  got: nothing"),
        ("loop.xml", XML.format("<event>"), r"is no XML\n.*\n  got: mismatched tag: line 5"),
        ("loop.xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declares a document type"),
        ("take.csv", "time,pitch\n0.1,36\n", r"line 1\n  expected: columns onset_s and pitch"),
        ("take.csv", "onset_s,pitch\n0.1,36\n0.2,99\n", r"take\.csv, line 3\n  expected: a pitch that has a row"),
        ("take.csv", "onset_s,class\n0.1,kick\n0.2,gong\n", r"line 3\n  expected: an instrument or .*\n  got: gong"),
        ("take.csv", "onset_s,pitch,class\n0.1,36,kick\n", r"line 2\n  expected: a pitch, or a class"),
        ("take.csv", "onset_s,pitch,velocity\n0.1,36,128\n", r"line 2\n  expected: a velocity from 1 to 127"),
        ("take.csv", "onset_s,pitch,velocity\n0.1,36,9\n0.2,36,\n", "a velocity for some hits"),
        ("take.csv", "onset_s,pitch\n0.1,36,7\n", r"line 2\n  expected: a cell for each column"),
        ("take.mid", b"not MIDI", r"take\.mid is not a MIDI file"),
        ("take.jams", "{}", r"take\.jams is no annotation"),
    ],
)  # fmt: skip
def test_what_a_format_cannot_say_is_refused_with_its_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BackbeatError, match=message):
        read_annotation(tmp_path / name, DRUMS)


def test_the_page_says_what_every_label_means() -> None:
    page = (REPOSITORY / "docs" / "reference" / "annotations.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("|")]
    for kind in FORMATS:
        assert any(f"{kind.suffix}`" in first for _, first in rows), kind.suffix
    for name, labels in (("MDB Drums", MDB_CLASSES | MDB_SUBCLASSES), ("IDMT", IDMT_CLASSES)):
        for label, instruments in labels.items():
            (meaning,) = [second for first, second in rows if f"`{label}`" in first and name in first]
            assert set(re.findall("`(.*?)`", meaning)) == instruments, label
