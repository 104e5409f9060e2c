"""Comparisons, their tables, and presets: pure functions, and the files of configs/experiments."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from backbeat.cli.experiments import app
from backbeat.config import load_params
from backbeat.errors import BackbeatError, ConfigError, ExperimentError
from backbeat.experiments.compare import HEADLINE_METRICS, Comparison, compare, headline, labels, verdict
from backbeat.experiments.presets import checked, load_preset, load_presets, overrides
from backbeat.experiments.results import Evaluated, Result, TrainingRun, flat, read_result
from backbeat.experiments.tables import changes, circumstances, csv_text, difference, duration_text, markdown

REPOSITORY = Path(__file__).parents[1]
PRESETS = sorted(path.stem for path in (REPOSITORY / "configs/experiments").glob("*.yaml"))

MAIN = Result(
    name="main",
    revision="a" * 40,
    params={"train.steps": 600, "train.learning_rate": 0.003, "train.held_out_kits": [4, 8], "dataset": "egmd_mini"},
    metrics={
        "onset_tolerance_s": 0.05, "test.sequences": 24, "test.onset_f1": 0.8805, "held_out_kits.onset_f1": 0.872,
        "test.onset_f1_macro": 0.8991, "test.onset_velocity_f1": 0.4688, "test.onset_f1_by_class.kick": 0.9231,
    },
    dataset="egmd_mini",
    data_hash="f7680097d00bc27da5f2bcf7c5bd2d25.dir",
    evaluated_on=Evaluated("8f" * 32, "drums7", 0.05),
    training=TrainingRun(163, "CPU (x86_64)", "cpu", 1, 2),
    cost_usd=0.004,
)  # fmt: skip


def other(name: str, **values: object) -> Result:
    return replace(MAIN, name=name, revision="b" * 40, **values)


def scored(name: str, onset_f1: float) -> Result:
    return other(name, metrics={**MAIN.metrics, "test.onset_f1": onset_f1})


def with_params(name: str, **values: object) -> Result:
    return other(name, params={**MAIN.params, **{f"train.{key}": value for key, value in values.items()}})


def test_only_what_differs_is_shown_by_the_last_part_of_its_name() -> None:
    found = compare([with_params("slow", learning_rate=0.001, held_out_kits=[4]), MAIN], MAIN)
    assert changes(found, found.rows[0]) == ("held_out_kits [4, 8] -> [4]", "learning_rate 0.003 -> 0.001")
    assert changes(found, found.rows[1]) == ()
    assert found.params == ("train.held_out_kits", "train.learning_rate")


def test_a_last_part_that_several_parameters_have_is_not_enough() -> None:
    assert labels(["train.seed", "mini.seed", "train.steps"]) == {
        "train.seed": "train.seed", "mini.seed": "mini.seed", "train.steps": "steps",
    }  # fmt: skip


def test_a_parameter_that_one_of_two_revisions_does_not_have_is_a_difference() -> None:
    found = compare([with_params("new", warmup=5)], MAIN)
    assert changes(found, found.rows[0]) == ("warmup none -> 5",)


@pytest.mark.parametrize(
    ("metric", "change", "meaning"),
    [
        ("test.onset_f1", 0.01, "better"),
        ("held_out_kits.onset_f1_by_class.kick", -0.01, "worse"),
        ("test.onset_recall", 0.01, "better"),
        ("test.onset_f1", 1e-9, "same"),
        ("test.onsets", 5.0, None),
        ("onset_tolerance_s", 0.01, None),
    ],
)
def test_more_is_better_for_scores_and_nothing_for_counts(metric: str, change: float, meaning: str | None) -> None:
    assert verdict(metric, change) == meaning


def test_every_metric_of_the_last_run_has_a_direction_or_is_a_count() -> None:
    counts = {name for name in read_result(REPOSITORY, "workspace").metrics if verdict(name, 1) is None}
    assert {name.rsplit(".", 1)[-1] for name in counts} == {"sequences", "onsets", "onset_tolerance_s"}


@pytest.mark.parametrize(
    ("onset_f1", "shown"),
    [(0.8912, "+0.011↑"), (0.8701, "-0.010↓"), (0.8805, "="), (0.8806, "+0.0001↑"), (0.8804, "-0.0001↓")],
)
def test_a_difference_has_its_sign_and_says_which_way_is_better(onset_f1: float, shown: str) -> None:
    found = compare([scored("x", onset_f1)], MAIN)
    assert difference(found.rows[0], "test.onset_f1") == shown


def test_what_is_shown_first_are_four_metrics_in_front_of_all() -> None:
    found = compare([], MAIN)
    assert headline(found) == HEADLINE_METRICS == found.metrics[:4]
    assert set(found.metrics) == set(MAIN.metrics)


@pytest.mark.parametrize(
    ("changed", "warning"),
    [
        ({"evaluated_on": Evaluated("9a" * 32, "drums7", 0.05)}, "other test data (9a9a9a9a, not 8f8f8f8f)"),
        ({"evaluated_on": Evaluated("8f" * 32, "adtof5", 0.05)}, "other classes (adtof5, not drums7)"),
        ({"evaluated_on": Evaluated("8f" * 32, "drums7", 0.03)}, "another tolerance (30 ms, not 50 ms)"),
        ({"evaluated_on": Evaluated(None, "drums7", 0.05)}, "whether they were tested on the same data is not known"),
        ({"metrics": {}}, "x has no scores"),
    ],
    ids=["test data", "classes", "tolerance", "not written down", "no scores"],
)
def test_what_cannot_be_compared_is_said(changed: dict[str, object], warning: str) -> None:
    (said,) = compare([other("x", **changed)], MAIN).warnings
    assert warning in said


def test_results_of_one_test_set_are_compared_without_a_word() -> None:
    assert compare([with_params("x", steps=60), scored("y", 0.1)], MAIN).warnings == ()


def test_circumstances_that_are_not_known_are_said_to_be_unknown() -> None:
    assert circumstances(MAIN) == ("egmd_mini f7680097", "2 min 43 s", "CPU (x86_64)", "<$0.01")
    assert circumstances(other("x", training=None, data_hash=None)) == ("egmd_mini ?", "?", "?", "?")


@pytest.mark.parametrize(
    ("duration_s", "shown"), [(59.6, "1 min 00 s"), (42, "42 s"), (163, "2 min 43 s"), (11_130, "3 h 05 min")]
)
def test_durations_are_for_people(duration_s: float, shown: str) -> None:
    assert duration_text(duration_s) == shown


def test_markdown_is_a_table_and_nobody_is_notified_by_it() -> None:
    hostile = with_params("x|y`<img src=a>`\n@you", learning_rate="a|b\n`c`")
    text = markdown(compare([replace(hostile, metrics={})], MAIN))
    table, legend, warning = text.rstrip("\n").split("\n\n")
    header, rule, main, row = table.splitlines()
    assert header.startswith("| experiment | changed | `test.onset_f1` | `held_out_kits.onset_f1` |")
    assert "| `main` |  | 0.880 | 0.872 | 0.899 | 0.469 | `egmd_mini f7680097` | `2 min 43 s` |" in main
    # A pipe that is no cell's end is escaped, also within code.
    assert len({line.replace("\\|", "").count("|") for line in (header, rule, main, row)}) == 1
    assert "`x\\|y'<img src=a>' @you`" in row
    assert "`learning_rate 0.003 -> a\\|b 'c'`" in row
    assert legend == "↑ better, ↓ worse, = equal to main"
    assert warning.startswith("> [!WARNING]\n> x\\|y")
    assert "\\<img src=a\\>" in warning
    assert "@you" not in warning


def test_csv_has_a_line_for_each_result_with_every_digit() -> None:
    found = compare([with_params("x", held_out_kits=[4])], MAIN)
    main, row = csv.DictReader(io.StringIO(csv_text(found)))
    assert row["params.train.held_out_kits"] == "[4]"
    assert json.loads(main["params.train.held_out_kits"]) == [4, 8]
    assert float(row["metrics.test.onset_f1"]) == 0.8805
    assert float(row["differences.test.onset_f1_by_class.kick"]) == 0.0
    assert (main["revision"], main["differences.test.onset_f1"]) == ("a" * 40, "")
    assert row["test_data"] == "8f" * 32


def test_in_a_narrow_terminal_every_change_keeps_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"parameter_{number}": number for number in range(12)}
    shown = printed(compare([with_params("no-augmentation", **many)], MAIN), monkeypatch, columns=60)
    assert all(f"parameter_{number} none -> {number}" in shown for number in range(12))
    assert max(map(len, shown.splitlines())) <= 60


def printed(comparison: Comparison, monkeypatch: pytest.MonkeyPatch, columns: int) -> str:
    """Return what `compare` prints of results that were read already."""
    results = {one.name: one for one in (comparison.against, *(row.result for row in comparison.rows))}
    monkeypatch.setattr("backbeat.experiments.results.read_result", lambda _, name: results[name])
    monkeypatch.setenv("COLUMNS", str(columns))
    names = [row.result.name for row in comparison.rows]
    done = CliRunner().invoke(app, ["compare", *names, "--against", comparison.against.name])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_why_and_holds_only_what_differs(name: str) -> None:
    preset = load_preset(REPOSITORY, name)
    assert len(preset.reason) > 60
    now = dict(flat(yaml.safe_load((REPOSITORY / "params.yaml").read_text())))
    same = [key for key, value in preset.changes.items() if now[key] == value]
    assert preset.changes
    assert not same
    assert len((REPOSITORY / f"configs/experiments/{name}.yaml").read_text().splitlines()) <= 15


@pytest.mark.parametrize("name", PRESETS)
def test_what_dvc_makes_of_a_preset_is_what_it_says(name: str) -> None:
    """Through Hydra's syntax and DVC's own code, and still valid."""
    preset = load_preset(REPOSITORY, name)
    after = dict(flat(checked(REPOSITORY, overrides(preset)).model_dump()))
    before = dict(flat(load_params(REPOSITORY).model_dump()))
    assert after == {**before, **preset.changes}


@pytest.mark.parametrize(
    "changes_",
    [
        {"train": {"held_out_kits": []}},
        {"train": {"held_out_kits": [1, 2, 3]}},
        {"train": {"learning_rate": 1e-05}},
        {"train": {"precision": "32-true", "classes": "it's a [b], c=d {e} ~ 1"}},
        {"dataset": "null"},
    ],
    ids=["empty list", "list", "small number", "text with everything", "a word that is not text"],
)
def test_values_survive_the_way_through_dvc(tmp_path: Path, changes_: dict[str, object]) -> None:
    project = with_preset(tmp_path, yaml.safe_dump(changes_))
    preset = load_preset(project, "own")
    after = dict(flat(json.loads(checked(project, overrides(preset)).model_dump_json())))
    assert preset.changes.items() <= after.items()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {sede: 2}", "did you mean train.seed?"),
        ("steps: 2", "did you mean train.steps?"),
        ("lerning_rate: 2", "did you mean train.learning_rate?"),
        ("train: 2", "train is no parameter"),
        ("", "changes nothing"),
        ("train: {seed: 1, seed: 2}", "is there twice"),
    ],
)
def test_a_preset_that_sets_what_is_no_parameter_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BackbeatError) as refused:
        load_presets(with_preset(tmp_path, text))
    assert message in str(refused.value)
    assert "configs/experiments/own.yaml" in str(refused.value)


def test_a_preset_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(ExperimentError) as refused:
        load_preset(REPOSITORY, "no-augmentations")
    assert "did you mean no-augmentation?" in str(refused.value)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ("train.sede=2", ExperimentError, "did you mean train.seed?"),
        ("+train.extra=2", ExperimentError, "is no parameter"),
        ("train.seed", ExperimentError, "is no override"),
        ("train.seed=1,2", ExperimentError, "is several values"),
        ("train.held_out_kits=[1", ExperimentError, "DVC cannot read"),
        ("train.seed=one", ConfigError, "train.seed"),
        ("train.steps=601", ConfigError, "not a multiple"),
    ],
)
def test_an_override_that_would_fail_later_is_refused_at_once(
    given: str, kind: type[BackbeatError], message: str
) -> None:
    with pytest.raises(kind) as refused:
        checked(REPOSITORY, [given])
    assert message in str(refused.value)


def with_preset(folder: Path, text: str) -> Path:
    """Make a folder with the parameters, and one preset `own`."""
    shutil.copy(REPOSITORY / "params.yaml", folder / "params.yaml")
    (folder / "configs/experiments").mkdir(parents=True)
    (folder / "configs/experiments/own.yaml").write_text(f"# A reason.\n{text}\n")
    return folder
