"""Surveys: catalogs and cutouts of galaxies, fetched from services on the network."""
