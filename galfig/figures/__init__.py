"""Figures: one file a figure, all drawn from a store alone."""
