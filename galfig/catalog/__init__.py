"""Catalogs: tables of galaxies that are read, labelled and split, or simulated."""
