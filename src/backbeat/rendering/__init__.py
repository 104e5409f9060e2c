"""Performances x kits: E-GMD's own method, with kits made of sounds from anywhere."""
