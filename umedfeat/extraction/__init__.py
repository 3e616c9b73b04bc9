"""The main job: inputs → sources → engine → feature file."""

from umedfeat.extraction.run import RunSettings, Summary, extract

__all__ = ["RunSettings", "Summary", "extract"]
