"""The one version number."""

__version__ = "0.5.0"
