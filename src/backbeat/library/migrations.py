"""The schema of `catalog.db`, step by step: a catalog made by an older version is brought up to date where it is used.

A step that has been released is never changed, since there are databases that have taken it; a change is a new step at
the end. Identifiers are numbers in the order of names, so that equal tables give equal bytes.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

MIGRATIONS = Migrations("backbeat.library")


def migrate(db: Database) -> None:
    """Take the steps that a database has not taken yet.

    When they were taken is not kept: the same tables would give other bytes every time.
    """
    MIGRATIONS.apply(db)
    db.execute(f"UPDATE {Migrations.migrations_table} SET applied_at = ''")  # noqa: S608 - a constant
    db.conn.commit()


def is_current(db: Database) -> bool:
    """Return whether a database has taken every step."""
    return not MIGRATIONS.pending(db)


@MIGRATIONS()
def tables(db: Database) -> None:
    """What the stages found out and what the user added, one table for each."""
    for statement in _TABLES:
        db.execute(statement)


@MIGRATIONS()
def library_view(db: Database) -> None:
    """What people look at: one row per sample that can be heard."""
    db.execute(_LIBRARY_VIEW)


@MIGRATIONS()
def full_text_search(db: Database) -> None:
    """An index of the words of a sample: its name and folders, class, description, tags and notes."""
    db.execute(_SEARCHED_VIEW)
    # The text is in the tables; the index alone is added. Accents are of no account.
    db.execute(
        "CREATE VIRTUAL TABLE search USING fts5(name, path, class, words, tags, notes,"
        " content='searched', content_rowid='id', tokenize='unicode61 remove_diacritics 2')"
    )
    rebuild_search(db)


@MIGRATIONS()
def faults_and_rule_words(db: Database) -> None:
    """Also what cannot be read is a row, and what tells its state a column; words by rule beside those of a model."""
    db.execute("ALTER TABLE words ADD COLUMN by_rule TEXT")
    for name, view in (("library", _LIBRARY_VIEW_2), ("searched", _SEARCHED_VIEW_2)):
        db.execute(f"DROP VIEW {name}")
        db.execute(view)
    rebuild_search(db)


def rebuild_search(db: Database) -> None:
    """Index all samples anew."""
    db.execute("INSERT INTO search(search) VALUES ('rebuild')")


_TABLES = (
    "CREATE TABLE sources (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, url TEXT, license TEXT)",
    # A row per distinct sound. What is measured of it is defined in docs/library.md.
    """CREATE TABLE sounds (
        id INTEGER PRIMARY KEY, audio_sha256 TEXT NOT NULL UNIQUE, error TEXT,
        kind TEXT, sound_class TEXT, class_confidence REAL, class_source TEXT,
        tempo_bpm REAL, tempo_confidence REAL, tempo_source TEXT, "key" TEXT, key_confidence REAL,
        pitch_hz REAL, note TEXT, brightness TEXT, weight TEXT, punch TEXT,
        peak_db REAL, true_peak_db REAL, rms_db REAL, crest_db REAL, loudness_lufs REAL, loudness_padded INTEGER,
        leading_silence_s REAL, attack_s REAL, decay_s REAL, decay_60_s REAL, temporal_centroid_s REAL,
        end_level_db REAL, end_energy_share REAL, noise_floor_db REAL,
        spectral_centroid_hz REAL, spectral_bandwidth_hz REAL, spectral_rolloff_hz REAL, spectral_flatness REAL,
        spectral_contrast_db REAL, spectral_flux_db REAL, zero_crossing_rate_hz REAL, harmonic_percussive_db REAL,
        low_share REAL, mid_share REAL, high_share REAL, bandwidth_limit_hz REAL, upsampled INTEGER,
        onset_count REAL, onset_rate_hz REAL, pitch_confidence REAL, stereo_width REAL, fake_stereo INTEGER)""",
    # A row per file.
    """CREATE TABLE samples (
        id INTEGER PRIMARY KEY, source_id INTEGER NOT NULL REFERENCES sources(id), path TEXT NOT NULL,
        name TEXT NOT NULL, container TEXT, tier TEXT, file_sha256 TEXT, size_bytes INTEGER, error TEXT,
        sound_id INTEGER REFERENCES sounds(id), format TEXT, subtype TEXT, bit_depth INTEGER, used_bits INTEGER,
        is_float INTEGER, sample_rate_hz INTEGER, channels INTEGER, frames INTEGER, duration_s REAL, peak_db REAL,
        clipped_samples INTEGER, silent INTEGER, dc_offset REAL,
        archive_state TEXT, archive_reason TEXT, flac_bytes INTEGER, UNIQUE (source_id, path))""",
    """CREATE TABLE duplicates (
        sample_id INTEGER PRIMARY KEY REFERENCES samples(id), group_id INTEGER NOT NULL, tier TEXT NOT NULL,
        keeper_id INTEGER NOT NULL REFERENCES samples(id), similarity REAL, correlation REAL, reason TEXT)""",
    # `contributions` is JSON: what each rule added to the score.
    """CREATE TABLE production (
        sample_id INTEGER PRIMARY KEY REFERENCES samples(id), score REAL, contributions TEXT, chosen INTEGER,
        curated_class TEXT, state TEXT, reason TEXT, production_path TEXT)""",
    "CREATE TABLE words (sound_id INTEGER PRIMARY KEY REFERENCES sounds(id), text TEXT, tags TEXT, source TEXT)",
    """CREATE TABLE notes (
        sample_id INTEGER PRIMARY KEY REFERENCES samples(id), rating INTEGER, tags TEXT, notes TEXT, class TEXT)""",
)

_JOINED = """
    FROM samples JOIN sources ON sources.id = samples.source_id
    LEFT JOIN sounds ON sounds.id = samples.sound_id
    LEFT JOIN words ON words.sound_id = samples.sound_id
    LEFT JOIN notes ON notes.sample_id = samples.id"""

_LIBRARY_VIEW = f"""CREATE VIEW library AS SELECT
    samples.id AS id, samples.id AS audio, samples.name AS name,
    coalesce(notes.class, sounds.sound_class) AS class, sounds.kind AS kind,
    CAST(round(1000 * samples.duration_s) AS INTEGER) AS duration_ms,
    round(sounds.tempo_bpm, 1) AS tempo_bpm,
    CASE WHEN sounds.tempo_bpm IS NOT NULL THEN printf('%d-%d bpm',
        10 * CAST(sounds.tempo_bpm / 10 AS INTEGER), 10 * CAST(sounds.tempo_bpm / 10 AS INTEGER) + 9) END AS tempo,
    sounds."key" AS "key", substr(sounds.note, 1, instr(sounds.note || ' ', ' ') - 1) AS note,
    sounds.brightness AS brightness, sounds.weight AS weight, sounds.punch AS punch,
    round(production.score, 1) AS score,
    CASE WHEN production.score >= 85 THEN '85-100' WHEN production.score >= 70 THEN '70-84'
        WHEN production.score >= 50 THEN '50-69' WHEN production.score IS NOT NULL THEN '0-49' END AS quality,
    production.chosen AS chosen, notes.rating AS rating, notes.tags AS tags, notes.notes AS notes,
    words.text AS words, words.tags AS word_tags, samples.tier AS tier,
    duplicates.tier AS duplicate,
    CASE WHEN duplicates.keeper_id != samples.id THEN keeper_sources.name || '/' || keepers.path END AS duplicate_of,
    CASE WHEN duplicates.tier != 'near' THEN duplicates.group_id END AS same_as, samples.sound_id AS sound_id,
    samples.bit_depth AS bit_depth, samples.is_float AS is_float, samples.sample_rate_hz AS sample_rate_hz,
    samples.channels AS channels, samples.size_bytes AS size_bytes,
    samples.container AS container, sources.name AS source, sources.license AS license,
    sources.name || '/' || samples.path AS sample
    {_JOINED}
    LEFT JOIN production ON production.sample_id = samples.id
    LEFT JOIN duplicates ON duplicates.sample_id = samples.id
    LEFT JOIN samples AS keepers ON keepers.id = duplicates.keeper_id
    LEFT JOIN sources AS keeper_sources ON keeper_sources.id = keepers.source_id
    WHERE samples.error IS NULL"""

_SEARCHED_VIEW = f"""CREATE VIEW searched AS SELECT
    samples.id AS id, samples.name AS name, sources.name || '/' || samples.path AS path,
    coalesce(notes.class, sounds.sound_class) AS class,
    words.text || ' ' || coalesce(words.tags, '') AS words, notes.tags AS tags, notes.notes AS notes
    {_JOINED}"""

_LIBRARY_VIEW_2 = (
    _LIBRARY_VIEW.removesuffix("    WHERE samples.error IS NULL")
    .replace("samples.id AS audio", "CASE WHEN samples.error IS NULL THEN samples.id END AS audio")
    .replace(
        "    samples.container AS container",
        """    samples.error AS error, samples.silent AS silent, samples.clipped_samples AS clipped_samples,
    production.state AS state, production.reason AS reason, production.production_path AS production_path,
    duplicates.reason AS duplicate_reason, samples.flac_bytes AS flac_bytes,
    samples.container AS container""",
    )
)

# Of an unreadable sample the reason is searched; words by rule are there whatever a model has said.
_SEARCHED_VIEW_2 = _SEARCHED_VIEW.replace(
    "words.text || ' ' || coalesce(words.tags, '') AS words",
    "coalesce(words.text || ' ' || coalesce(words.tags, '') || ' ' || coalesce(words.by_rule, ''), samples.error)"
    " AS words",
)
