"""One HTML page that shows an experiment: scores, curves, spectrograms with their sound."""
