"""Maps against known truth: those of any library, on galaxies whose deciding component is known."""
