"""Kits of the drum machine Hydrogen: a `drumkit.xml`, and the sound files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree as ET

from backbeat.errors import ConfigError
from backbeat.rendering.bank import SAMPLE_RATE_HZ, OneShot, one_shot
from backbeat.rendering.folders import read_mono

KIT_FILE = "drumkit.xml"


def hydrogen_bank(folder: Path, instruments: Mapping[str, str], leave_out: Sequence[str]) -> dict[str, list[OneShot]]:
    """Return the sounds of a kit by instrument.

    Args:
        folder: where `drumkit.xml` is.
        instruments: names in the kit to ours; what is not named is not used.
        leave_out: patterns of file names that are not used.

    Raises:
        ConfigError: if there is no such kit, or a name is not in it.
        AudioError: if a sound file cannot be decoded.
    """
    named = _instruments(folder)
    missing = sorted(set(instruments) - {name for name, _ in named})
    if missing:
        what = f"{folder.name} has no {', '.join(missing)}"
        raise ConfigError(what, expected="names of its drumkit.xml", got=", ".join(name for name, _ in named))
    shots: dict[str, list[OneShot]] = {}
    for name, instrument in named:
        for file, force, semitones in _layers(instrument) if name in instruments else ():
            if any(fnmatchcase(file, pattern) for pattern in leave_out):
                continue
            # What is played at another rate has another pitch.
            rate_hz = round(SAMPLE_RATE_HZ * 2 ** (semitones / 12))
            shot = one_shot(read_mono(folder / file), rate_hz, force)
            if shot is not None:
                shots.setdefault(instruments[name], []).append(shot)
    return shots


def _instruments(folder: Path) -> list[tuple[str, ET.Element]]:
    """Return names and elements of the instruments, without the namespace that newer kits have."""
    path = folder / KIT_FILE
    try:
        root = ET.fromstring(path.read_bytes())  # noqa: S314 - a file that the system's packages installed
    except (OSError, ET.ParseError) as error:
        raise ConfigError(f"{path} cannot be read", expected="a kit of Hydrogen", got=str(error)) from error
    for element in root.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]
    return [(_text(element, "name"), element) for element in root.iter("instrument")]


def _layers(instrument: ET.Element) -> list[tuple[str, float, float]]:
    """Return file, force and semitones of each layer; kits of the first version have one file without layers."""
    ranges = sorted(
        (_number(layer, "max", 1.0), _number(layer, "min", 0.0), _text(layer, "filename"), _number(layer, "pitch", 0.0))
        for layer in instrument.iter("layer")
    )
    layers = []
    for index, (high, low, file, semitones) in enumerate(ranges):
        # Layers overlap, and in some kits all begin at 0: a softer one is played where it can be.
        below = max((other for other, *_ in ranges[:index] if other < high), default=0.0)
        layers.append((file, (max(low, below) + high) / 2, semitones))
    layers = layers or [(_text(instrument, "filename"), 0.5, 0.0)]
    return [layer for layer in layers if layer[0]]


def _text(element: ET.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _number(element: ET.Element, tag: str, otherwise: float) -> float:
    text = _text(element, tag)
    try:
        return float(text) if text else otherwise
    except ValueError:
        raise ConfigError(f"{tag} of a layer is no number", expected=f"<{tag}>0.5</{tag}>", got=text) from None
