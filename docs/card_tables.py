"""The tables of the packaged model's card: its scores, and whose sounds it has heard. `make docs`."""

import json
from pathlib import Path
from typing import Any

from backbeat.rendering.recipe import load_recipe

REPOSITORY = Path(__file__).parents[1]
SCORES = REPOSITORY / "reports" / "pretrained.json"
MAPS = ("drums10", "groove9", "drums7", "adtof5", "hits3")
STRICT_IN = "drums7"
RECIPE = REPOSITORY / "configs" / "kits" / "rendered-kits.yaml"


def scores() -> str:
    """Return F1 within 50 ms in every class map, and by the stricter measures in the map that is the default."""
    content = json.loads(SCORES.read_text(encoding="utf-8"))
    lines = [_row(["recordings", *(f"`{name}`" for name in MAPS), f"`{STRICT_IN}`, 25 ms", f"`{STRICT_IN}`, velocity"])]
    lines.append(_row(["---"] * (len(MAPS) + 3)))
    for one in content["sets"]:
        maps = one["class_maps"]
        cells = [_number(maps[name]["onset_f1"]) + _part(maps[name]) for name in MAPS]
        strict = [_number(maps[STRICT_IN][key]) for key in ("strict_onset_f1", "onset_velocity_f1")]
        lines.append(_row([_name(one), *cells, *strict]))
    return "\n".join(lines) + "\n"


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


def _part(scores: dict[str, Any]) -> str:
    """Return how many classes the annotations tell apart, where these are not all."""
    told = scores["classes"] - len(scores["not_scored"])
    return "" if told == scores["classes"] else f" ({told})"


def _name(scored: dict[str, Any]) -> str:
    name = str(scored["name"]).removesuffix(".zip")
    return name if name != "real" else str(scored["content"]).removeprefix("annotations of ").split(",")[0]


def _shown(by_class: dict[str, Any], name: str) -> str:
    return f"{_number(by_class[name]['onset_f1'])} ({by_class[name]['onsets']:,})" if name in by_class else ""


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


TABLES = {"packaged_scores": scores, "packaged_classes": classes, "packaged_sounds": sounds}
