"""Drum data: the E-GMD layout, MIDI onsets, drum classes, shards, and the stage that makes them."""
