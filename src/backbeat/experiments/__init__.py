"""Experiments that can be compared: presets, runs, tables, repetition."""
