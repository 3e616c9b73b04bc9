"""Flat images: PNG, JPEG, TIFF, BMP, WebP, whole or in tiles."""
