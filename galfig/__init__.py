"""Grad-CAM figures of galaxies, in batch and again at will."""

__version__ = "0.1.0"
