"""What somebody looks for, in words: `dark kick under 300 ms` becomes conditions and words to search for.

The language is that of the catalog: a word means a class, a brightness, a weight or a punch if the catalog has such
samples, and is searched for in names, tags, notes and descriptions if it does not. Everything has to hold; of several
classes, one.

    under 300 ms, over 2 s, 200-400 ms, 300 ms (a fifth more or less)      length
    short, long                                            length, from where on descriptions say so
    808, 909, 606, 707                                     the machine, in names and notes; 808 is also any bass
    under 100 bpm, 90-100 bpm, 120 bpm (1 more or less)                    tempo
    loop, one-shot                                                         kind
    A minor, Am, F# major                                                  key
    G1, f#2                                                                note of a hit
    24 bit, 48 kHz, mono, stereo                                           format
    score over 80, 4 stars                                                 quality, your rating
    "vinyl crackle"                                                        a phrase
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from backbeat.library.conditions import Condition, Query, between, in_key, matched, note_letter, one_of, phrase
from backbeat.library.words import LONG_S, SHORT_S

# Which column of the view `library` means what a word says: word -> (column, value).
Vocabulary = Mapping[str, tuple[str, str]]

# What musicians write for a class, where the catalog has it.
SYNONYMS = {
    **dict.fromkeys(("bd", "kik", "kickdrum", "bass drum", "bassdrum", "kick drum"), ("kick",)),
    **dict.fromkeys(("sd", "snr", "snare drum"), ("snare",)),
    **dict.fromkeys(("hh", "hihat", "hi hat", "hat"), ("hat", "closed_hat", "open_hat", "closed hat", "open hat")),
    **dict.fromkeys(("ch", "chh", "closed hihat", "closed hi hat"), ("closed_hat", "closed hat", "hat")),
    **dict.fromkeys(("oh", "ohh", "open hihat", "open hi hat"), ("open_hat", "open hat", "hat")),
    **dict.fromkeys(("cp", "handclap", "hand clap"), ("clap",)),
    **dict.fromkeys(("rimshot", "rim shot", "sidestick", "side stick", "rs"), ("rim",)),
    **dict.fromkeys(("cymbal",), ("cymbal", "crash", "ride")),
    **dict.fromkeys(("percussion",), ("perc",)),
    **dict.fromkeys(("sub",), ("bass",)),
}

# Words that say nothing of a sound.
_EMPTY_WORDS = frozenset(("a", "an", "the", "and", "or", "with", "of", "for", "in", "at", "that", "is", "are", "me"))

# 1,000 and 1,000.5 are a thousand, 1.000,5 too; 0,3 and 1,25 have a decimal comma.
_THOUSANDS = r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d{1,6})?"
_NUMBER = rf"({_THOUSANDS}|[1-9]\d{{0,2}}(?:\.\d{{3}})+,\d{{1,6}}|\d{{1,6}}(?:[.,]\d{{1,6}})?)"
_UNDER = r"(?:under|below|shorter\s+than|slower\s+than|less\s+than|no\s+longer\s+than|at\s+most|up\s+to|max|<=?)"
_OVER = r"(?:over|above|longer\s+than|faster\s+than|more\s+than|at\s+least|min|>=?)"
_BOUND = rf"(?:({_UNDER})|{_OVER})\s*"
_TO = r"\s*(?:-|\u2013|to|\.\.)\s*"
_TIME = r"\s*(ms|msecs?|milliseconds?|s|secs?|seconds?)"


@dataclass
class _Reader:
    vocabulary: Vocabulary
    conditions: list[Condition] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    # Of all classes that are named, and behind how many conditions the first one is.
    classes: list[str] = field(default_factory=list)
    before_classes: int = 0


# Takes what a pattern has found; False if it means something else after all.
_Read = Callable[[_Reader, re.Match[str]], bool]


def parse(text: str, vocabulary: Vocabulary) -> Query:
    """Return what a text asks for; there is no text that has no meaning.

    Args:
        text: what somebody typed.
        vocabulary: what the words of the catalog mean (`backbeat.library.find.vocabulary`).
    """
    reader, rest = _Reader(vocabulary), text.replace("\0", " ").strip()
    while rest:
        for pattern, read in _GRAMMAR:
            match = pattern.match(rest)
            if match and read(reader, match):
                rest = rest[match.end() :]
                break
        else:
            word = rest.split(maxsplit=1)[0]
            _read_word(reader, word)
            rest = rest[len(word) :]
        rest = rest.lstrip(" ,;\t\n\r") if rest.strip() else ""
    if reader.classes:
        reader.conditions.insert(reader.before_classes, one_of("class", reader.classes))
    return Query(tuple(dict.fromkeys(reader.conditions)), tuple(dict.fromkeys(reader.words)))


def _read_phrase(reader: _Reader, match: re.Match[str]) -> bool:
    if _searchable(match[1]):
        reader.words.append(match[1].strip())
    return True


def _read_bounded_time(reader: _Reader, match: re.Match[str]) -> bool:
    value = _milliseconds(match[2], match[3])
    low, high = (None, value) if match[1] else (value, None)
    reader.conditions.append(between("duration_ms", low, high))
    return True


def _read_time_range(reader: _Reader, match: re.Match[str]) -> bool:
    low, high = _milliseconds(match[1], match[3]), _milliseconds(match[2], match[3])
    reader.conditions.append(between("duration_ms", min(low, high), max(low, high)))
    return True


def _read_time(reader: _Reader, match: re.Match[str]) -> bool:
    value = _milliseconds(match[1], match[2])
    if match[2] == "s" and value > 60_000:  # 808s, 909s
        return False
    reader.conditions.append(between("duration_ms", round(0.8 * value), round(1.2 * value)))
    return True


def _read_bounded_tempo(reader: _Reader, match: re.Match[str]) -> bool:
    value = _number(match[2])
    reader.conditions.append(between("tempo_bpm", None, value) if match[1] else between("tempo_bpm", value, None))
    return True


def _read_tempo_range(reader: _Reader, match: re.Match[str]) -> bool:
    bounds = sorted((_number(match[1]), _number(match[2])))
    reader.conditions.append(between("tempo_bpm", bounds[0], bounds[1]))
    return True


def _read_tempo(reader: _Reader, match: re.Match[str]) -> bool:
    value = _number(match[1])
    reader.conditions.append(between("tempo_bpm", value - 1, value + 1))
    return True


def _read_score(reader: _Reader, match: re.Match[str]) -> bool:
    value = _number(match[2])
    low, high = (None, value) if match[1] else (value, None)
    reader.conditions.append(between("score", low, high))
    return True


def _read_rating(reader: _Reader, match: re.Match[str]) -> bool:
    reader.conditions.append(Condition(f"rated {match[1]} or better", '"rating" >= {0}', (int(match[1]),)))
    return True


def _read_bits(reader: _Reader, match: re.Match[str]) -> bool:
    reader.conditions.append(Condition(f"{match[1]} bit", '"bit_depth" = {0}', (int(match[1]),)))
    return True


def _read_rate(reader: _Reader, match: re.Match[str]) -> bool:
    # 44.1 and 44 kHz, and 44,101 Hz, are all of one kind.
    khz = float(match[1].replace(",", "."))
    condition = Condition(f"{khz:g} kHz", '"sample_rate_hz" BETWEEN {0} AND {1}', (995 * khz, 1005 * khz))
    reader.conditions.append(condition)
    return True


def _read_channels(reader: _Reader, match: re.Match[str]) -> bool:
    channels = 1 if match[1].lower() == "mono" else 2
    reader.conditions.append(Condition(match[1].lower(), '"channels" = {0}', (channels,)))
    return True


def _read_kind(reader: _Reader, match: re.Match[str]) -> bool:
    kind = "loop" if match[1].lower().startswith("loop") else "one-shot"
    reader.conditions.append(one_of("kind", [kind]))
    return True


def _read_key(reader: _Reader, match: re.Match[str]) -> bool:
    if re.fullmatch("[a-g]m", match[0]):  # am radio, fm bass
        return False
    reader.conditions.append(in_key(match[1], match[2]))
    return True


def _read_tonic(reader: _Reader, match: re.Match[str]) -> bool:
    reader.conditions.append(in_key(match[1] or match[2], None))
    return True


def _read_note(reader: _Reader, match: re.Match[str]) -> bool:
    note = f"{note_letter(match[1])}{match[2]}"
    # It may as well be a part of a name, such as `kick a1`.
    sql = f'("note" = {{0}} OR {matched("{1}")})'
    reader.conditions.append(Condition(f"of the note {note}", sql, (note, phrase(match[0]))))
    return True


def _read_length(reader: _Reader, match: re.Match[str]) -> bool:
    word = match[1].lower()
    sql = f'("duration_ms" {"< {0}" if word == "short" else ">= {0}"} OR {matched("{1}")})'
    bound_ms = 1000 * (SHORT_S if word == "short" else LONG_S)
    text = f"short (under {bound_ms:g} ms)" if word == "short" else f"long ({bound_ms:g} ms and more)"
    # As in a vocabulary, a tag of the user counts as much; so does the name, which somebody has given it.
    reader.conditions.append(Condition(text, sql, (bound_ms, f"{{name tags}} : {phrase(word)}")))
    return True


def _read_machine(reader: _Reader, match: re.Match[str]) -> bool:
    name = match[1]
    if name == "808" and "bass" in reader.vocabulary:
        sql = f'("class" = {{0}} OR {matched("{1}")})'
        reader.conditions.append(Condition("808 or bass", sql, (reader.vocabulary["bass"][1], phrase(name))))
    else:
        reader.words.append(name)
    return True


def _read_vocabulary(reader: _Reader, match: re.Match[str]) -> bool:
    meant = meaning(match[0], reader.vocabulary)
    if not meant:
        return False
    column = meant[0][0]
    if column == "class":
        if not reader.classes:
            reader.before_classes = len(reader.conditions)
        reader.classes += [value for _, value in meant]
    else:
        # A tag of the user, or a word of the model, counts as much as the descriptor.
        value = meant[0][1]
        sql = f'("{column}" = {{0}} OR {matched("{1}")})'
        reader.conditions.append(Condition(value, sql, (value, f"{{words tags}} : {phrase(match[0])}")))
    return True


def _read_word(reader: _Reader, word: str) -> None:
    word = word.strip('"')
    if _searchable(word) and word.lower() not in _EMPTY_WORDS:
        reader.words.append(word)


def meaning(word: str, vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Return the columns and values of the catalog that a word stands for; none if it is to be searched for."""
    word = " ".join(word.lower().replace("-", " ").split())
    for form in (word, word.removesuffix("s"), word.removesuffix("es")):
        if form in SYNONYMS:
            meant = [vocabulary[name] for name in SYNONYMS[form] if name in vocabulary]
            if meant:
                return meant
        for name in (form, form.replace(" ", "_"), form.replace("_", " ")):
            if name in vocabulary:
                return [vocabulary[name]]
    return []


def _milliseconds(number: str, unit: str) -> float:
    return _number(number) * (1 if unit.lower().startswith("m") else 1000)


def _number(text: str) -> float:
    if re.fullmatch(_THOUSANDS, text):
        return float(text.replace(",", ""))
    if "," in text:
        text = text.replace(".", "").replace(",", ".")
    return float(text)


def _searchable(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _rule(pattern: str, read: _Read) -> tuple[re.Pattern[str], _Read]:
    return re.compile(pattern + r"(?![\w#])", re.IGNORECASE), read


# The first that fits is meant; each is tried where the one before has ended.
_GRAMMAR = (
    (re.compile(r'"([^"]*)"'), _read_phrase),
    _rule(_BOUND + _NUMBER + _TIME, _read_bounded_time),
    _rule(_NUMBER + _TO + _NUMBER + _TIME, _read_time_range),
    _rule(_NUMBER + _TIME, _read_time),
    _rule(_BOUND + _NUMBER + r"\s*bpm", _read_bounded_tempo),
    _rule(_NUMBER + _TO + _NUMBER + r"\s*bpm", _read_tempo_range),
    _rule(_NUMBER + r"\s*bpm", _read_tempo),
    _rule(r"(?:score|quality)\s+" + _BOUND + _NUMBER, _read_score),
    _rule(r"(?:rated\s+)?([1-5])\s*(?:stars?|\*+)", _read_rating),
    _rule(r"(8|16|24|32|64)[\s-]?bits?", _read_bits),
    _rule(r"(\d{1,3}(?:[.,]\d{1,3})?)\s*k(?:hz)?", _read_rate),
    _rule(r"(mono|stereo)", _read_channels),
    _rule(r"(short|long)", _read_length),
    _rule(r"(808|909|606|707)s?", _read_machine),
    _rule(r"(loops?|one[\s-]?shots?)", _read_kind),
    _rule(r"(?:in\s+)?([a-g][#b♯♭]?)\s+(minor|major|min|maj)", _read_key),
    (re.compile(r"(?:in\s+)?([A-Ga-g][#b♯♭]?)(m|min|maj|M)(?![\w#])"), _read_key),
    (re.compile(r"(?:[Ii]n\s+([A-G][#b♯♭]?)|[Kk]ey\s+([A-Ga-g][#b♯♭]?))(?![\w#])"), _read_tonic),
    _rule(r"([a-g][#b♯♭]?)(-?\d)", _read_note),
    *(_rule(r"\s+".join([r"[^\W\d_][\w-]*"] * words), _read_vocabulary) for words in (3, 2)),
    _rule(r"[\w-]+", _read_vocabulary),
)
