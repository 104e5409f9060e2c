"""Backbeat: declared datasets, versioned spectrograms and a drum transcriber."""
