"""Samples that the program makes itself: to try everything without any, and to measure it against the truth."""

from backbeat.library.generated.make import generate, truth_path

__all__ = ["generate", "truth_path"]
