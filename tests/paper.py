"""A small manuscript: its manifest, and what its tests do with it."""

MANIFEST = """
[stores]
colour = "maps.h5"

[[figure]]
name = "confusion"
figure = "confusion-matrix"
store = "colour"

[[figure]]
name = "panels"
figure = "panels"
store = "colour"
width = "text"
selection = { n = 2, zmin = 0.03 }
"""
MADE = ["confusion", "panels"]
STEPS = """
[[steps]]
command = "galfig simulate data --n 3"
makes = "data/catalog.csv"
"""


def build(folder):
    """Build, and return why each file was made, by path."""
    from galfig.manuscript.build import build_manuscript

    return {state.path: state.reason for state in build_manuscript(folder)}


def check(folder, **options):
    """Check, and return path and reason of each difference."""
    from galfig.manuscript.check import check_manuscript

    return [(found.path, found.reason) for found in check_manuscript(folder, **options)]


def replace_in(path, old, new):
    """Replace words of a file, which must be there."""
    words = path.read_text()
    assert old in words
    path.write_text(words.replace(old, new))
