"""MIDI files: every hit at its time, and one clear error for a file that has none or keeps none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbeat.drums.midi import NOTE_S, Onsets, read_onsets, write_onsets
from backbeat.errors import MidiError

END = b"\x00\xff\x2f\x00"
HIT = b"\x00\x99\x24\x64"  # at once, channel 10, note 36, velocity 100


def chunk(name: bytes, content: bytes) -> bytes:
    return name + len(content).to_bytes(4, "big") + content


def raw(track: bytes, *, kind: int = 0, tracks: int = 1, division: int = 480) -> bytes:
    """Return a MIDI file of one track, byte by byte."""
    header = b"".join(number.to_bytes(2, "big") for number in (kind, tracks, division))
    return chunk(b"MThd", header) + chunk(b"MTrk", track)


def song(*tracks: list[Any], kind: int = 1, ticks: int = 480) -> bytes:
    content = io.BytesIO()
    lists = [mido.MidiTrack(track) for track in tracks]
    mido.MidiFile(type=kind, ticks_per_beat=ticks, tracks=lists).save(file=content)
    return content.getvalue()


def note(time: int, pitch: int = 36, velocity: int = 100, channel: int = 9) -> mido.Message:
    return mido.Message("note_on", channel=channel, note=pitch, velocity=velocity, time=time)


def tempo(time: int, bpm: float) -> mido.MetaMessage:
    return mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm), time=time)


def seconds(content: bytes) -> list[float]:
    return [round(float(onset_s), 6) for onset_s in read_onsets(content).onset_s]


# --- Round trip ------------------------------------------------------------------------------------------------------

HITS = st.tuples(
    st.integers(0, 96_000 * 10),  # ticks of 1/960 s, up to 1,000 s
    st.integers(0, 127),
    st.integers(1, 127),
)


@settings(max_examples=50, deadline=None)
@given(hits=st.lists(HITS, min_size=1, max_size=40, unique_by=lambda hit: hit[:2]))
def test_what_is_written_is_read(hits: list[tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    hits.sort()
    ticks, pitch, velocity = zip(*hits, strict=True)
    onsets = Onsets(
        np.array([tick / 960 for tick in ticks], np.float32), np.array(pitch, np.uint8), np.array(velocity, np.uint8)
    )
    path = tmp_path_factory.mktemp("midi") / "some.mid"
    write_onsets(onsets, path)
    found = read_onsets(path.read_bytes())
    np.testing.assert_allclose(found.onset_s, onsets.onset_s, atol=1e-4)
    assert (found.pitch.tolist(), found.velocity.tolist()) == (list(pitch), list(velocity))


def test_written_hits_are_short_notes_on_channel_10(tmp_path: Path) -> None:
    one = Onsets(np.array([1], np.float32), np.array([38], np.uint8), np.array([90], np.uint8))
    write_onsets(one, tmp_path / "some.mid")
    now_s, events = 0.0, []
    for message in mido.MidiFile(tmp_path / "some.mid"):
        now_s += message.time
        if not message.is_meta:
            events.append((message.type, message.channel, message.note, round(now_s, 6)))
    assert events == [("note_on", 9, 38, 1.0), ("note_off", 9, 38, 1.0 + NOTE_S)]


def test_nothing_is_written_as_a_file_without_notes(tmp_path: Path) -> None:
    empty = np.empty(0, np.float32)
    write_onsets(Onsets(empty, empty.astype(np.uint8), empty.astype(np.uint8)), tmp_path / "some.mid")
    assert not [message for message in mido.MidiFile(tmp_path / "some.mid") if message.type == "note_on"]


# --- What counts -----------------------------------------------------------------------------------------------------


def test_tempo_is_120_until_a_file_says_otherwise() -> None:
    assert seconds(song([note(0), note(480), note(480)])) == [0, 0.5, 1]


def test_tempo_changes_count_from_where_they_stand() -> None:
    track = [tempo(0, 60), note(480), tempo(240, 120), note(240), tempo(0, 30), note(480)]
    assert seconds(song(track)) == [1, 1.75, 3.75]


def test_tempo_of_one_track_holds_for_all() -> None:
    assert seconds(song([tempo(0, 60), tempo(960, 120)], [note(480), note(960)])) == [1, 2.5]


def test_tempos_of_several_tracks_are_taken_in_order_of_time() -> None:
    assert seconds(song([tempo(960, 120), note(960)], [tempo(480, 60), note(960)])) == [2, 2.5]


def test_tempo_change_on_the_tick_of_a_hit_moves_only_what_follows() -> None:
    assert seconds(song([tempo(480, 60)], [note(480), note(480)])) == [0.5, 1.5]


@pytest.mark.parametrize("ticks", [1, 24, 96, 480, 960, 32_767])
def test_ticks_are_those_of_the_header(ticks: int) -> None:
    assert seconds(song([note(0), note(ticks)], ticks=ticks)) == [0, 0.5]


def test_hit_without_a_note_off_counts() -> None:
    assert seconds(song([note(0), note(480), note(480)])) == [0, 0.5, 1]


def test_note_on_without_velocity_is_a_note_off() -> None:
    assert seconds(song([note(0), note(240, velocity=0), note(240)])) == [0, 0.5]


def test_same_pad_twice_without_a_note_off_is_two_hits() -> None:
    assert len(read_onsets(song([note(0), note(10), note(10)]))) == 3


def test_hits_of_all_tracks_and_channels_are_in_order_of_time() -> None:
    found = read_onsets(song([note(480, 38)], [note(0, 42, channel=0), note(960, 46)], [note(480, 36)]))
    assert list(zip(found.onset_s.tolist(), found.pitch.tolist(), strict=True)) == [
        (0, 42), (0.5, 36), (0.5, 38), (1, 46),
    ]  # fmt: skip


def test_type_0_is_read_like_type_1() -> None:
    track = [tempo(0, 90), note(0), note(480, 38)]
    assert seconds(song(track, kind=0)) == seconds(song(track, kind=1))


def test_other_messages_take_their_time() -> None:
    control = mido.Message("control_change", channel=9, control=4, value=90, time=480)
    words = mido.MetaMessage("text", text="sticks", time=480)
    exclusive = mido.Message("sysex", data=(1, 2, 3), time=480)
    assert seconds(song([control, words, exclusive, note(480)])) == [2]


def test_chunks_that_nobody_knows_are_no_tracks() -> None:
    assert seconds(raw(HIT + END) + chunk(b"XTRA", b"12345")) == [0]


def test_equal_bytes_under_another_name_are_parsed_once() -> None:
    content = song([note(0), note(480)])
    assert read_onsets(content, "one.mid").onset_s is read_onsets(content, "other.mid").onset_s


# --- Traps -----------------------------------------------------------------------------------------------------------

TRAPS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not a MIDI file"),
    "garbage": (b"Once upon a time there was a drum." * 9, "is not a MIDI file"),
    "web page": (b"<!DOCTYPE html><html></html>", "is not a MIDI file"),
    "MIDI in RIFF": (b"RIFF\x40\0\0\0RMIDdata\x30\0\0\0" + raw(HIT + END), "is not a MIDI file"),
    "cut off": (raw(HIT + END)[:-3], "is not a MIDI file"),
    "header only": (raw(HIT + END)[:14], "is not a MIDI file"),
    "65,535 tracks promised": (raw(HIT + END, kind=1, tracks=65_535), "is cut off"),
    "two tracks promised": (raw(HIT + END, kind=1, tracks=2), "is not a MIDI file"),
    "division of zero": (raw(HIT + END, division=0), "does not count in beats"),
    "time in SMPTE frames": (raw(HIT + END, division=0xE728), "does not count in beats"),
    "tempo of zero": (raw(b"\x00\xff\x51\x03\x00\x00\x00\x60\x99\x24\x64" + END), "has a tempo of zero"),
    "patterns": (raw(HIT + END, kind=2), "does not follow one clock"),
    "time of 80 bits": (raw(b"\xff" * 10 + b"\x7f\x99\x24\x64" + END), "keeps an impossible time"),
    "time of 1,400 bits": (raw(b"\xff" * 200 + b"\x7f\x99\x24\x64" + END), "keeps an impossible time"),
    "time of 1,400 bits before a tempo": (
        raw(b"\xff" * 200 + b"\x7f\xff\x51\x03\x07\xa1\x20" + HIT + END), "keeps an impossible time",
    ),
    "hit after two days": (song([note(2 * 86_400 * 960)]), "keeps an impossible time"),
    "no notes": (raw(END), "has no notes"),
    "only note-offs": (song([note(0, velocity=0)]), "has no notes"),
    "key that does not exist": (raw(b"\x00\xff\x59\x02\x7f\x05" + HIT + END), "is not a MIDI file"),
    "text of 268 MB": (raw(b"\x00\xff\x01\xff\xff\xff\x7fabc" + END), "is not a MIDI file"),
    "data without a message": (raw(b"\x00\x24\x64" + END), "is not a MIDI file"),
    "pitch above 127": (raw(b"\x00\x99\xa4\x64" + END), "is not a MIDI file"),
}  # fmt: skip


@pytest.mark.parametrize("case", TRAPS)
def test_trap_is_refused_by_name(case: str) -> None:
    content, fragment = TRAPS[case]
    with pytest.raises(MidiError) as refusal:
        read_onsets(content, "trap.midi")
    assert refusal.value.what.startswith(f"trap.midi {fragment}"), refusal.value


def test_second_file_with_the_same_fault_is_called_by_its_own_name() -> None:
    for name in ("one.mid", "other.mid"):
        with pytest.raises(MidiError, match=f"{name} has no notes"):
            read_onsets(raw(END), name)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_anywhere_ends_in_hits_or_in_one_error(data: st.DataObject) -> None:
    content = bytearray(song([tempo(0, 90), note(0), note(480, 38)], [note(240, 42), note(960, 46)]))
    for _ in range(data.draw(st.integers(1, 4), label="damages")):
        content[data.draw(st.integers(0, len(content) - 1), label="at")] = data.draw(st.integers(0, 255), label="byte")
    try:
        found = len(read_onsets(bytes(content)))
    except MidiError:
        return
    assert found > 0
