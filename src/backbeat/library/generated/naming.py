"""Where musicians put their samples, and what they call them: some names tell what is inside, many do not."""

from __future__ import annotations

import numpy as np

# The folder of a class, and what its files are called.
_CLASSES = {
    "kick": ("Kicks", ("KICK_deep", "Kick", "BD", "kick_punchy", "Bassdrum")),
    "snare": ("Snares", ("SNARE", "Snare tight", "SD", "snr_fat", "Snare")),
    "clap": ("Claps", ("Clap", "CLAP_wide", "CP", "clap")),
    "rim": ("Rims", ("Rim", "RIMSHOT", "rim_dry", "Sidestick")),
    "closed_hat": ("Hats/Closed", ("HH closed", "CH", "ClosedHat", "hat_cl")),
    "open_hat": ("Hats/Open", ("HH open", "OH", "OpenHat", "hat_op")),
    "tom": ("Toms", ("Tom", "TOM_floor", "Tom hi", "tom_mid")),
    "crash": ("Cymbals", ("Crash", "CRASH_dark", "crash")),
    "ride": ("Cymbals", ("Ride", "RIDE_bell", "ride")),
    "cowbell": ("Perc", ("Cowbell", "COWBELL", "cow")),
    "shaker": ("Perc", ("Shaker", "SHK", "shaker_soft")),
    "perc": ("Perc", ("Perc", "PERC_wood", "perc")),
    "bass": ("808s", ("808", "Bass hit", "SUB", "808_dist")),
    "stab": ("Stabs", ("Stab", "CHORD_hit", "stab_key")),
}
_PACKS = ("Drum Hits", "Drum Hits", "VINYL VAULT Vol 2", "lofi_kit_03", "Analog Machines", "My Recordings")
_NOWHERE = ("Unsorted", "from old laptop/samples", "ZOOM0001", "_misc", "Desktop backup/Neuer Ordner (2)")
_PLAIN = ("SMP", "audio", "bounce", "Sample", "untitled", "take", "REC")
_ODD = ("größer_Übung", "café noir", "звук", "ドラム", "naïve", "it's (final) [v2] #1", "a  b ")
_LONG = "the one from the session with the broken tape machine that everybody wanted to have again but nobody found "


def one_shot_path(rng: np.random.Generator, number: int, sound_class: str) -> str:
    """Return the path of a one-shot; `number` makes it the only one of its name."""
    folder, words = _CLASSES[sound_class]
    draw = rng.random()
    if draw < 0.6:
        return f"{_one(rng, _PACKS)}/{folder}/{_one(rng, words)}_{number:02d}.wav"
    if draw < 0.7:
        return f"{_one(rng, _NOWHERE)}/{_one(rng, words)} {number}.WAV"
    return _untold(rng, number)


def loop_path(rng: np.random.Generator, number: int, style: str, tempo_bpm: float, key: str | None) -> str:
    """Return the path of a loop: in a folder of its tempo, with tempo or key in its name, or without either."""
    short_key = "" if key is None else key.replace(" minor", "min").replace(" major", "maj")
    told_key = f"_{short_key}" if key is not None and rng.random() < 0.6 else ""
    draw = rng.random()
    what = style.title() if key is None or rng.random() < 0.5 else "Melodic"
    if draw < 0.25:
        return f"Loops/{tempo_bpm:g} BPM/{what}{told_key} {number}.wav"
    if draw < 0.55:
        return f"Loops/{what}/{style.replace(' ', '')}_{tempo_bpm:g}bpm{told_key}_{number:02d}.wav"
    if draw < 0.8:
        return f"Loops/{what}/{what} loop{told_key} {number}.wav"
    return _untold(rng, number)


def copied_path(rng: np.random.Generator, path: str, number: int, suffix: str) -> str:
    """Return the path of a copy: beside the original, in a backup, or under another name altogether."""
    stem = path.rsplit(".", 1)[0]
    name = stem.rsplit("/", 1)[-1]
    return (
        f"{stem} copy {number}{suffix}",
        f"Backup 2019/{name}~{number}{suffix}",
        f"Best of/{_one(rng, _PLAIN)}_{number:04d}{suffix}",
    )[rng.integers(3)]


def _untold(rng: np.random.Generator, number: int) -> str:
    draw = rng.random()
    if draw < 0.12:
        return f"{_one(rng, _NOWHERE)}/{_one(rng, _ODD)} {number}.wav"
    if draw < 0.15:
        return f"{_one(rng, _NOWHERE)}/{_LONG}{number}.wav"
    return f"{_one(rng, _NOWHERE)}/{_one(rng, _PLAIN)}_{number:04d}.wav"


def _one(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[rng.integers(len(words))]
