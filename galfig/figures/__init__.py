"""Figures: one module per figure, each drawn from a store alone."""
