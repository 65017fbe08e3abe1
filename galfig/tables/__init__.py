"""Tables: numbers and texts of galaxies, written in the formats that astronomers open."""
