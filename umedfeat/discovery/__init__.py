"""Discovery: paths, folders and manifests become Sources."""

from umedfeat.discovery.discover import Discovery, discover, discover_files

__all__ = ["Discovery", "discover", "discover_files"]
