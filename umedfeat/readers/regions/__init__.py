"""Regions of interest that others have drawn: masks and contours on the grid of an image."""
