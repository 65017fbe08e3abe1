"""Benchmarks: ratios in one interleaved run, on real galaxies where they are at hand."""
