"""The tables that stages hand on: Parquet, the same bytes for the same rows.

A sample is one file: `sample` is its name, `<source>/<path>`. What is computed of its sound is keyed by `audio_sha256`,
so a sound that is there five times is described once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from backbeat.errors import LibraryError
from backbeat.library.settings import LIBRARY_FOLDER
from backbeat.storage.staging import new_file

# One row per file of every source, and per file that is only in the archive any more. Where `error` is set, the file
# could not be read: `file_sha256` and `size_bytes` are known then, what follows them is null.
SCAN = pa.schema(
    [
        ("sample", pa.string()),
        ("source", pa.string()),
        ("path", pa.string()),  # within the source; in an archive `<archive>/<member>`
        ("container", pa.string()),  # the archive that it is in, relative to the source; null for a file in a folder
        ("source_url", pa.string()),
        ("license", pa.string()),
        ("tier", pa.string()),  # settings.Tier
        ("file_sha256", pa.string()),
        ("size_bytes", pa.int64()),
        ("error", pa.string()),
        ("audio_sha256", pa.string()),  # of rate, channels and decoded samples: `backbeat.library.facts.audio_digest`
        ("format", pa.string()),
        ("subtype", pa.string()),
        ("bit_depth", pa.int16()),  # as stored; null where a codec has none
        ("used_bits", pa.int16()),  # as needed: 16 of a 16-bit file that is stored with 24
        ("is_float", pa.bool_()),
        ("sample_rate_hz", pa.int32()),
        ("channels", pa.int16()),
        ("frames", pa.int64()),
        ("duration_s", pa.float64()),
        ("peak_db", pa.float64()),  # dBFS; null for digital silence
        ("clipped_samples", pa.int64()),
        ("silent", pa.bool_()),
        ("dc_offset", pa.float64()),  # of full scale
    ]
)

# One row per distinct sound that could be decoded. The measures are defined in `backbeat.audio.descriptors`; what a
# sound does not have is null. Where `error` is set, all that follows it is.
DESCRIPTORS_TABLE = pa.schema(
    [
        ("audio_sha256", pa.string()),
        ("error", pa.string()),
        ("kind", pa.string()),  # one-shot | loop
        ("sound_class", pa.string()),  # `backbeat.library.sound_class.CLASSES`
        ("class_confidence", pa.float64()),
        ("class_source", pa.string()),  # name | rule | model
        ("tempo_bpm", pa.float64()),  # of loops, where it is clear
        ("tempo_confidence", pa.float64()),
        ("tempo_source", pa.string()),  # audio | name | chunk
        ("key", pa.string()),  # `A minor`; of loops, where there is one
        ("key_confidence", pa.float64()),
        ("note", pa.string()),  # of one-shots with a pitch, with the cents from it: `A1 +12`
        ("brightness", pa.string()),  # dark | neutral | bright
        ("weight", pa.string()),  # thin | medium | heavy
        ("punch", pa.string()),  # soft | medium | punchy
        *[(name, pa.bool_()) for name in ("loudness_padded", "upsampled", "fake_stereo")],
        *[
            (name, pa.float64())
            for name in (
                *("peak_db", "true_peak_db", "rms_db", "crest_db", "loudness_lufs"),
                *("leading_silence_s", "attack_s", "decay_s", "decay_60_s", "temporal_centroid_s"),
                *("end_level_db", "end_energy_share", "noise_floor_db"),
                *("spectral_centroid_hz", "spectral_bandwidth_hz", "spectral_rolloff_hz", "spectral_flatness"),
                *("spectral_contrast_db", "spectral_flux_db", "zero_crossing_rate_hz", "harmonic_percussive_db"),
                *("low_share", "mid_share", "high_share", "bandwidth_limit_hz", "onset_count", "onset_rate_hz"),
                *("pitch_hz", "pitch_confidence", "stereo_width"),
                *(f"{name}_{number:02d}" for name in ("mfcc", "mfcc_spread") for number in range(13)),
            )
        ],
    ]
)

# One row per file that has at least one duplicate.
DUPLICATES = pa.schema(
    [
        ("sample", pa.string()),
        ("group", pa.int32()),
        (
            "tier",
            pa.string(),
        ),  # how it resembles the keeper: exact | same_audio | same_sound | near; of a keeper: keeper
        ("keeper", pa.string()),
        ("similarity", pa.float64()),  # of embeddings, with the keeper
        ("correlation", pa.float64()),  # of waveforms, with the keeper; null where nothing had to be compared
        ("reason", pa.string()),  # why the keeper is kept, in words
    ]
)

# One row per distinct sound: the vector that says what it resembles (`backbeat.audio.resemblance`).
EMBEDDINGS = pa.schema([("audio_sha256", pa.string()), ("embedding", pa.binary())])


# One row per file of every source, with its score and what becomes of it. One more column for each rule of
# `curate.rules`, by its name: the points that it gave.
CURATION = pa.schema(
    [
        ("sample", pa.string()),
        ("audio_sha256", pa.string()),
        ("curated_class", pa.string()),  # whose quota it is of: the user's class, else loop, else the program's class
        ("score", pa.float64()),  # 0 to 100: the sum of the points; null if it could not be read
        ("chosen", pa.bool_()),
        ("state", pa.string()),  # `backbeat.library.choice.State`
        ("reason", pa.string()),
        ("production_path", pa.string()),  # below data/library/production; null if it is not chosen
    ]
)

# One row per file of every source, and per entry of the ledger. Of one that was archived, the FLAC file that gives the
# identical bytes back; of one that is kept as it is, why.
ARCHIVE = pa.schema(
    [
        ("sample", pa.string()),
        ("file_sha256", pa.string()),
        ("audio_sha256", pa.string()),
        ("size_bytes", pa.int64()),
        ("flac_sha256", pa.string()),
        ("flac_md5", pa.string()),  # its name in DVC's cache and in the bucket
        ("flac_bytes", pa.int64()),
        ("state", pa.string()),  # archived | kept
        ("reason", pa.string()),
    ]
)


# Tables that are not called like the stage that makes them.
_STAGES = {"descriptors": "describe", "embeddings": "describe", "curation": "curate"}


def table_path(project: Path, name: str) -> Path:
    """Return where the table of that name is: `data/library/<name>.parquet`."""
    return project / LIBRARY_FOLDER / f"{name}.parquet"


def write_table(project: Path, name: str, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table sorted by its first column; equal rows give equal bytes.

    Args:
        project: the root of the repository.
        name: of the table, which is that of its stage.
        schema: its columns.
        rows: in any order; a column that a row does not have is null.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    key = schema.names[0]
    ordered = sorted(rows, key=lambda row: str(row[key]))
    table = pa.Table.from_pylist([{column: row.get(column) for column in schema.names} for row in ordered], schema)
    with new_file(table_path(project, name)) as part:
        pq.write_table(table, part, compression="zstd", version="2.6", store_schema=False)


def read_table(project: Path, name: str, columns: list[str] | None = None) -> pa.Table:
    """Return a table that a stage has written.

    Raises:
        LibraryError: if it is not there or damaged.
    """
    path, stage = table_path(project, name), _STAGES.get(name, name)
    try:
        return pq.read_table(path, columns=columns)
    except FileNotFoundError:
        raise LibraryError(
            f"{path.relative_to(project)} is not there",
            expected=f"what the stage {stage} makes",
            next_step=f"dvc repro data/library/dvc.yaml:{stage}, or dvc pull",
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise LibraryError(
            f"{path.relative_to(project)} cannot be read",
            expected="a Parquet table",
            got=str(error),
            next_step=f"dvc repro --force --single-item data/library/dvc.yaml:{stage}",
        ) from error
