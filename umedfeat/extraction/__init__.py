"""The main job: inputs → sources → engine → feature file (``umedfeat.extract``)."""
