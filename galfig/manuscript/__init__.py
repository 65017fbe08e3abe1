"""Manuscripts: a folder with a manifest, its figures drawn anew where they are out of date."""
