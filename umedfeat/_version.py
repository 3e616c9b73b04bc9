"""The one version number."""

__version__ = "0.6.0"
