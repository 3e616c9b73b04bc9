"""The feature file: written in segments, packed into one HDF5 file, read with FeatureFile."""

from umedfeat.store.export import Exported, export
from umedfeat.store.feature_store import FeatureStore, shard_path
from umedfeat.store.item import Item
from umedfeat.store.merge import merge, missing_shards, refuse_existing
from umedfeat.store.read import FeatureFile
from umedfeat.store.schema import SCHEMA, Header
from umedfeat.store.verify import Verified, verify

__all__ = [
    "SCHEMA",
    "Exported",
    "FeatureFile",
    "FeatureStore",
    "Header",
    "Item",
    "Verified",
    "export",
    "merge",
    "missing_shards",
    "refuse_existing",
    "shard_path",
    "verify",
]
