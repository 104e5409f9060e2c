"""The dataset `egmd_mini`: an archive in E-GMD's layout that is made on the spot, the same bytes every time.

Grooves (`grooves`) are played on synthetic drum kits (`kits`) and filed as a zip (`archive`). It is small enough to
be the default of a fresh clone and rich enough to train on: eight kits that differ like kits do, human timing,
velocities that change timbre, rooms, bleed, overlapping cymbals, remapped pads.
"""

from backbeat.datasets.mini.archive import COLUMNS, ROOT, write_archive
from backbeat.datasets.mini.grooves import SPLITS
from backbeat.datasets.mini.kits import ALL_KITS, KITS

__all__ = ["ALL_KITS", "COLUMNS", "KITS", "ROOT", "SPLITS", "write_archive"]
