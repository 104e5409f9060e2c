"""The tables of the packaged model's card: its scores, and whose sounds it has heard. `make docs`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backbeat.rendering.recipe import load_recipe

REPOSITORY = Path(__file__).parents[1]
SCORES = REPOSITORY / "reports" / "pretrained.json"
RECIPE = REPOSITORY / "configs" / "kits" / "rendered-kits.yaml"


def scores() -> str:
    """Return the scores on every set, a line for each class map."""
    lines = ["| recordings | classes | F1, 50 ms | F1, 25 ms | with velocity |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *_score_rows(json.loads(SCORES.read_text(encoding="utf-8")))]) + "\n"


def classes() -> str:
    """Return the F1 of every class of the model's own map, a column for each set of recordings."""
    content = json.loads(SCORES.read_text(encoding="utf-8"))
    own = content["model"]["class_map"]
    maps = [one["class_maps"][own]["by_class"] for one in content["sets"]]
    lines = [_row(["class", *map(_name, content["sets"])]), _row(["---"] * (1 + len(maps)))]
    names = dict.fromkeys(name for by_class in maps for name in by_class)
    lines += [_row([name.replace("_", " "), *(_shown(by_class, name) for by_class in maps)]) for name in names]
    return "\n".join(lines) + "\n"


def sounds() -> str:
    """Return the sources of the sounds, with their licenses and what they were used for."""
    lines = ["| sounds | of | license | Debian package | for |", "|---|---|---|---|---|"]
    recipe = load_recipe(RECIPE)
    for source in recipe.sources:
        package = source.package or "this project"
        lines.append(f"| {source.name} | {source.license.holder} | {source.license.id} | {package} | {source.role} |")
    if recipe.band:
        band = recipe.band
        lines.append(f"| songs that play along | {band.license.holder} | {band.license.id} | {band.package} | all |")
    return "\n".join(lines) + "\n"


def _score_rows(content: dict[str, Any]) -> Iterator[str]:
    for one in content["sets"]:
        for name, scores in sorted(one["class_maps"].items(), key=lambda item: (-item[1]["classes"], item[0])):
            told = scores["classes"] - len(scores["not_scored"])
            shown = (_number(scores[key]) for key in ("onset_f1", "strict_onset_f1", "onset_velocity_f1"))
            yield _row([_name(one), f"{name} ({told})", *shown])


def _name(scored: dict[str, Any]) -> str:
    return f"{scored['name']}: {scored['content']}"


def _shown(by_class: dict[str, Any], name: str) -> str:
    return f"{_number(by_class[name]['onset_f1'])} ({by_class[name]['onsets']:,})" if name in by_class else ""


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


TABLES = {"packaged_scores": scores, "packaged_classes": classes, "packaged_sounds": sounds}
