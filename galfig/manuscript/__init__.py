"""Manuscripts: folders with a manifest, whose figures are redrawn when they are out of date."""
