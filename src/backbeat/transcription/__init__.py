"""Drum transcription: windows and targets, the model, its training, decoding, evaluation, and its use."""
