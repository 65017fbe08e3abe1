"""Catalogs: tables of galaxies, read, labelled, split, or simulated."""
