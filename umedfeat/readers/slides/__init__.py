"""Whole slides: scale, tissue, grid and tiles of exactly the asked size."""
