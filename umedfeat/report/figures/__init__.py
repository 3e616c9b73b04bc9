"""Figures of the report: each module draws one kind, as SVG that takes its colours from the page."""
