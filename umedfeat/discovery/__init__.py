"""Discovery: paths, folders and manifests become Sources."""

from umedfeat.discovery.discover import Discovery, discover

__all__ = ["Discovery", "discover"]
