"""The one version number."""

__version__ = "0.7.0"
