"""One model, several class maps: which it can answer in, and how its classes become theirs."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from backbeat.drums.classes import class_map, load_drums
from backbeat.transcription.answers import Answer, coarser_maps, pooled, untuned_answers

TABLE = load_drums(Path(__file__).parents[1])


def maps_of(native: str) -> dict[str, list[list[int]]]:
    return {coarse.name: members for coarse, members in coarser_maps(TABLE, class_map(TABLE, native))}


def test_ten_drums_answer_in_every_published_map() -> None:
    assert list(maps_of("drums10")) == ["hits3", "adtof5", "drums7", "oaf8", "groove9", "drums10"]


@pytest.mark.parametrize("native", list(TABLE.class_maps))
def test_a_hit_of_a_native_class_is_one_of_the_class_it_is_a_member_of(native: str) -> None:
    fine = class_map(TABLE, native)
    maps = coarser_maps(TABLE, fine)
    for coarse, members in maps:
        of_native = {index: place for place, of in enumerate(members) for index in of}
        expected = [of_native.get(index, -1) if index >= 0 else None for index in fine.class_of_pitch.tolist()]
        pairs = zip(coarse.class_of_pitch.tolist(), expected, strict=True)
        assert all(place == wanted for place, wanted in pairs if wanted is not None)
    assert {native: [[index] for index in range(len(fine.classes))]}.items() <= {
        coarse.name: members for coarse, members in maps
    }.items()


def test_a_map_that_tears_a_native_class_apart_is_none_to_answer_in() -> None:
    # Its toms are three classes there.
    assert "groove9" not in maps_of("drums7")
    # Its snare is partly in none there: claps.
    assert "adtof5" not in maps_of("drums7")


def test_a_class_that_the_model_cannot_hear_has_no_members() -> None:
    claves = class_map(TABLE, "oaf8").classes.index("claves")
    assert maps_of("drums10")["oaf8"][claves] == []


def test_untuned_answers_are_written_as_the_notes_of_their_map() -> None:
    for classes, answer in untuned_answers(TABLE, class_map(TABLE, "drums10")):
        assert (answer.class_map, tuple(answer.notes)) == (classes.name, classes.notes)


def test_any_of_two_independent_ones() -> None:
    probability = np.array([[0.5, 0.5, 0.1], [0.0, 0.0, 0.9]], np.float32)
    velocity = np.array([[0.2, 0.8, 0.4], [0.2, 0.8, 0.6]], np.float32)
    heard, loudness = pooled(probability, velocity, [[2], [0, 1], []])
    assert heard == pytest.approx(np.array([[0.1, 0.75, 0.0], [0.9, 0.0, 0.0]]))
    assert loudness[0] == pytest.approx([0.4, 0.5, 0.0])
    assert np.isfinite(loudness).all()


def test_velocity_is_that_of_the_member_that_is_there() -> None:
    _, loudness = pooled(np.array([[0.99, 0.01]], np.float32), np.array([[0.9, 0.1]], np.float32), [[0, 1]])
    assert loudness[0, 0] == pytest.approx(0.892)


def test_a_map_of_the_same_classes_changes_no_bit() -> None:
    rng = np.random.default_rng(1)
    probability, velocity = rng.random((2, 50, 4), np.float32)
    heard, loudness = pooled(probability, velocity, [[0], [1], [2], [3]])
    assert np.array_equal(heard, probability)
    assert np.array_equal(loudness, velocity)


@pytest.mark.parametrize("change", [{"notes": [36]}, {"thresholds": []}, {"members": [[0], [0]]}, {"classes": []}])
def test_an_answer_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    values = {"class_map": "two", "classes": ["a", "b"], "notes": [36, 38], "members": [[0], [1]],
              "thresholds": [0.5, 0.5]}  # fmt: skip
    assert Answer.model_validate(values)
    with pytest.raises(ValidationError):
        Answer.model_validate(values | change)
