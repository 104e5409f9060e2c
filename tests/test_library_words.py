"""Words by rule, and the file of words that were bought."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backbeat.errors import LibraryError
from backbeat.library.questions import MalformedAnswerError, parse_answer
from backbeat.library.words import WORDS_FILE, note_name, read_bought, rule_words

KICK = {"kind": "one-shot", "sound_class": "kick", "duration_s": 0.2, "brightness": "dark", "weight": "heavy",
        "punch": "punchy", "attack_s": 0.001, "decay_s": 0.1, "tempo_bpm": None, "key": None, "note": "G1 +4",
        "pitch_hz": 49.1}  # fmt: skip
LOOP = {"kind": "loop", "sound_class": None, "duration_s": 5.3, "brightness": "bright", "weight": "medium",
        "punch": None, "tempo_bpm": 95.8, "key": "A minor", "pitch_hz": 110.0}  # fmt: skip
CYMBAL = {"kind": "one-shot", "sound_class": "open_hat", "duration_s": 2.5, "brightness": "neutral", "weight": "thin",
          "punch": "soft", "decay_s": 1.2}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "text", "tags"),
    [
        (KICK, "short dark kick, heavy, punchy, G1", ("kick", "one-shot", "short", "dark", "heavy", "punchy")),
        ({**KICK, "note": None}, "short dark kick, heavy, punchy, G1", None),
        (LOOP, "bright loop, 96 BPM, A minor", ("loop", "bright")),
        (CYMBAL, "long open hat, thin, soft, long decay", None),
        ({**KICK, "sound_class": "other"}, "short dark sound, heavy, punchy, G1", None),  # a class that is not known
        (dict.fromkeys(KICK), "sound", ()),
        ({}, "sound", ()),
    ],
)
def test_words_by_rule_say_what_is_known(row: dict[str, object], text: str, tags: tuple[str, ...] | None) -> None:
    words = rule_words(row)
    assert (words.text, words.source) == (text, "rule")
    assert tags is None or words.tags == tags


@pytest.mark.parametrize(("pitch_hz", "note"), [(440.0, "A4"), (49.0, "G1"), (27.5, "A0"), (0.0, None), (None, None)])
def test_notes_are_those_of_the_tempered_scale(pitch_hz: float | None, note: str | None) -> None:
    assert note_name(pitch_hz) == note


def line(sound: str, text: str) -> str:
    return json.dumps(
        {"audio_sha256": sound * 64, "question": "0" * 64, "model": "m", "text": text, "tags": ["a b"]}
    )  # fmt: skip


def write(project: Path, content: str) -> None:
    path = project / WORDS_FILE
    path.parent.mkdir(parents=True)
    path.write_text(content)


def test_newest_words_of_a_sound_are_its_words_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    assert read_bought(tmp_path) == {}
    write(tmp_path, "\n".join([line("a", "old"), line("b", "other"), line("a", "new"), line("b", "torn")[:-3]]))
    assert {sound[0]: words.text for sound, words in read_bought(tmp_path).items()} == {"a": "new", "b": "other"}


def test_line_that_is_none_of_ours_is_named(tmp_path: Path) -> None:
    write(tmp_path, line("a", "good") + "\n<<<<<<< HEAD\n" + line("b", "good") + "\n")
    with pytest.raises(LibraryError, match=r"line 2 of data/library/words.jsonl"):
        read_bought(tmp_path)


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("<script>x</script>", ["ok"]),
        ("see https://evil.example now", ["ok"]),
        ("a [link](x)", ["ok"]),
        ("`code`", ["ok"]),
        ("\x1b[31mred kick", ["ok"]),
        ("two\u202ewords", ["ok"]),
        ("x" * 121, ["ok"]),
        ("", ["ok"]),
        ("a fine kick", []),
        ("a fine kick", ["ok"] * 9),
        ("a fine kick", ["<b>"]),
        ("a fine kick", ["t" * 25]),
        ("a fine kick", [7]),
        (7, ["ok"]),
    ],
)
def test_answer_with_anything_but_plain_words_is_refused(text: object, tags: list[object]) -> None:
    said = json.dumps({"sounds": [{"id": 1, "text": text, "tags": tags}]})
    with pytest.raises(MalformedAnswerError):
        parse_answer(said, 1)


@pytest.mark.parametrize("ids", [[], [1], [1, 1], [1, 3], [1, 2, 3], [True, 2], ["1", 2]])
def test_answer_has_each_sound_once(ids: list[object]) -> None:
    said = json.dumps({"sounds": [{"id": number, "text": "a fine kick", "tags": ["ok"]} for number in ids]})
    with pytest.raises(MalformedAnswerError):
        parse_answer(said, 2)


def test_answer_is_put_in_order_and_in_plain_form() -> None:
    said = [{"id": 2, "text": "Größer, 4/4 & more", "tags": ["Lo-Fi", "lo-fi ", "drum & bass"]},
            {"id": 1, "text": " a  kick ", "tags": ["Warm"]}]  # fmt: skip
    one, two = parse_answer("```json\n" + json.dumps({"sounds": said, "note": "done"}) + "\n```", 2)
    assert (one.text, one.tags) == ("a kick", ("warm",))
    assert (two.text, two.tags) == ("Größer, 4/4 & more", ("lo-fi", "drum & bass"))
