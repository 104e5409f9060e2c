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
from backbeat.experiments.queue import Task
from backbeat.experiments.results import Evaluated, Result, TrainingRun, flat, read_result
from backbeat.experiments.run import follow
from backbeat.experiments.tables import changes, circumstances, csv_text, difference, duration_text, markdown
from backbeat.experiments.verify import Artifact, Verification, largest_difference

REPOSITORY = Path(__file__).parents[1]
PRESETS = sorted(path.stem for path in (REPOSITORY / "configs/experiments").glob("*.yaml"))

ON = Evaluated(
    test_data="8f" * 32,
    class_map="drums7",
    onset_tolerance_s=0.05,
    class_of_pitch="1d" * 32,
    params={"evaluate.onset_tolerance_s": 0.05, "evaluate.velocity_tolerance": 0.1},
)
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
    evaluated_on=ON,
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
        ({"evaluated_on": replace(ON, test_data="9a" * 32)}, "other test data (9a9a9a9a, not 8f8f8f8f)"),
        ({"evaluated_on": replace(ON, class_map="adtof5")}, "other classes (adtof5, not drums7)"),
        ({"evaluated_on": replace(ON, onset_tolerance_s=0.03)}, "another tolerance (30 ms, not 50 ms)"),
        (
            {"evaluated_on": replace(ON, class_of_pitch="3c" * 32)},
            "other classes (drums7 3c3c3c3c, not drums7 1d1d1d1d)",
        ),
        (
            {"evaluated_on": replace(ON, params={**ON.params, "evaluate.velocity_tolerance": 0.2})},
            "another velocity_tolerance (0.2, not 0.1)",
        ),
        ({"evaluated_on": replace(ON, test_data=None)}, "whether they were tested on the same data is not known"),
        ({"metrics": {}}, "x has no scores"),
    ],
    ids=[
        "test data",
        "classes",
        "tolerance",
        "classes of one name",
        "velocity tolerance",
        "not written down",
        "no scores",
    ],
)
def test_what_cannot_be_compared_is_said(changed: dict[str, object], warning: str) -> None:
    comparison = compare([other("x", **changed)], MAIN)
    (said,) = comparison.warnings
    assert warning in said
    # No arrow says that other test data, or a wider tolerance, has made the model better.
    if "other" in warning:
        assert comparison.rows[0].result.metrics
        assert not comparison.rows[0].differences


def test_scores_that_are_not_of_the_parameters_beside_them_are_said_to_be_so() -> None:
    on = replace(ON, params={**ON.params, "dataset": "egmd_mini", "train.learning_rate": 0.003})
    stale = replace(with_params("workspace", learning_rate=0.1), evaluated_on=on)
    (said,) = compare([stale], replace(MAIN, evaluated_on=on)).warnings
    assert "the scores of workspace are not of its parameters" in said
    assert "other values of train.learning_rate; next: dvc repro" in said
    elsewhere = other("workspace", params={**MAIN.params, "dataset": "egmd"}, evaluated_on=on)
    assert "other values of dataset;" in compare([MAIN], elsewhere).warnings[0]


def test_scores_by_held_out_kits_have_no_difference_where_other_kits_were_held_out() -> None:
    metrics = {**MAIN.metrics, "test.onset_f1": 0.89, "held_out_kits.onset_f1": 0.95}
    found = compare([replace(with_params("x", held_out_kits=[5]), metrics=metrics)], MAIN)
    assert difference(found.rows[0], "held_out_kits.onset_f1") == ""
    assert difference(found.rows[0], "test.onset_f1") == "+0.010↑"
    (said,) = found.warnings
    assert "x held out other kits (5) than main (4, 8)" in said
    assert compare([with_params("y", held_out_kits=[8, 4])], MAIN).warnings == ()


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


def test_what_is_left_out_of_a_comparison_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    results = {"HEAD": replace(MAIN, name="HEAD"), "main": MAIN, "x": other("x")}
    monkeypatch.setattr("backbeat.experiments.results.read_result", lambda _, name: results[name])
    done = CliRunner().invoke(app, ["compare", "HEAD", "x", "--against", "main"])
    assert "HEAD is main, which it would be compared with" in done.stderr
    assert "nothing to compare" not in done.stderr
    done = CliRunner().invoke(app, ["compare", "HEAD", "--against", "main"])
    assert "nothing to compare with main; next: " in done.stderr
    assert "changed since" not in done.stdout


VERIFIED = Verification(
    "x",
    "a" * 40,
    (Artifact("data/processed/y", "shards", "not repeated"), Artifact("reports/metrics.json", "scores", "same bytes")),
    (),
)


def test_shards_that_were_not_repeated_are_not_called_reproduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backbeat.experiments.verify.verify", lambda *_, **__: VERIFIED)
    done = CliRunner().invoke(app, ["verify", "x"])
    assert done.exit_code == 0
    assert "x (aaaaaaa) has the same scores again; its shards were not repeated" in done.stdout
    said = json.loads(CliRunner().invoke(app, ["verify", "x", "--json"]).stdout)
    assert said["reproduced"] is True
    assert said["verdict"] == "has the same scores again; its shards were not repeated"
    shards, scores = VERIFIED.artifacts
    assert replace(VERIFIED, artifacts=(replace(shards, outcome="same bytes"), scores)).verdict == "was reproduced"
    worse = replace(VERIFIED, artifacts=(shards, replace(scores, outcome="differs")))
    assert worse.verdict == "was not reproduced"


@pytest.mark.parametrize("now", [float("nan"), float("inf"), None, "0.5"])
def test_a_score_that_is_no_number_is_no_reproduction(now: object) -> None:
    found = largest_difference({"a": 0.5, "b": 0.5, "c": 0.5}, {"a": 0.4, "b": now, "c": 0.3})
    assert found == (float("inf"), "b")


def followed(monkeypatch: pytest.MonkeyPatch, looks: list[list[Task] | Exception], *, worker: bool) -> list[str]:
    """Follow one task of a queue that is found like this, look by look, and stays as at last; return what was said."""

    def look(_: object) -> list[Task]:
        found = looks.pop(0) if len(looks) > 1 else looks[0]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr("backbeat.experiments.queue.tasks", look)
    monkeypatch.setattr("backbeat.experiments.queue._has_worker", lambda _: worker)
    monkeypatch.setattr("backbeat.experiments.run._dvc", lambda *_: 0)
    monkeypatch.setattr("backbeat.experiments.run.POLL_S", 0.0)
    said: list[str] = []
    follow(REPOSITORY, [Task("a" * 40, "x", "Queued")], say=said.append)
    return said


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ([], "no longer has x"),
        ([Task("a" * 40, "x", "Running")], "nobody works on x"),
        (ExperimentError("the queue is broken"), "the queue is broken"),
    ],
    ids=["removed", "no worker", "unreadable"],
)
def test_a_queue_of_which_nothing_can_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, last: list[Task] | Exception, message: str
) -> None:
    # A worker changes DVC's files while they are read: one odd look means nothing.
    running, done = [Task("a" * 40, "x", "Running")], [Task("a" * 40, "x", "Success")]
    assert followed(monkeypatch, [running, last, done], worker=True) == ["x: running", "x: success"]
    with pytest.raises(ExperimentError, match=message):
        followed(monkeypatch, [running, last], worker=False)


def test_long_training_without_a_word_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[list[Task] | Exception] = [[Task("a" * 40, "x", "Running")]] * 100
    said = followed(monkeypatch, [*running, [Task("a" * 40, "x", "Success")]], worker=True)
    assert said[-1] == "x: success"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_why_and_holds_only_what_differs(name: str) -> None:
    preset = load_preset(REPOSITORY, name)
    assert len(preset.reason) > 60
    now = dict(flat(yaml.safe_load((REPOSITORY / "params.yaml").read_text())))
    same = [key for key, value in preset.changes.items() if now[key] == value]
    assert preset.changes
    assert not same
    assert len((REPOSITORY / f"configs/experiments/{name}.yaml").read_text().splitlines()) <= 25


@pytest.mark.parametrize("name", PRESETS)
def test_what_dvc_makes_of_a_preset_is_what_it_says(name: str) -> None:
    """Through Hydra's syntax and DVC's own code, and still valid."""
    preset = load_preset(REPOSITORY, name)
    # As JSON: a list of YAML is a tuple in what is frozen.
    after = dict(flat(json.loads(checked(REPOSITORY, overrides(preset)).model_dump_json())))
    before = dict(flat(json.loads(load_params(REPOSITORY).model_dump_json())))
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


def test_the_next_step_of_an_override_is_one_that_can_be_taken() -> None:
    with pytest.raises(ConfigError) as refused:
        checked(REPOSITORY, ["train.steps=601"])
    assert refused.value.next_step is not None
    assert refused.value.next_step.startswith("correct -S, or the preset in configs/experiments/")
    with pytest.raises(ExperimentError) as several:
        checked(REPOSITORY, ["train.steps=60", "train.seed=1,2"])
    assert "dvc exp run --queue -S train.steps=60 -S train.seed=1,2" in str(several.value)


def with_preset(folder: Path, text: str) -> Path:
    """Make a folder with the parameters, and one preset `own`."""
    shutil.copy(REPOSITORY / "params.yaml", folder / "params.yaml")
    (folder / "configs/experiments").mkdir(parents=True)
    (folder / "configs/experiments/own.yaml").write_text(f"# A reason.\n{text}\n")
    return folder
