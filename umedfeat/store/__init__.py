"""The feature file: written in segments, packed into one HDF5 file, read with FeatureFile."""

from umedfeat.store.feature_store import FeatureStore, shard_path
from umedfeat.store.item import Item
from umedfeat.store.merge import merge, missing_shards, refuse_existing
from umedfeat.store.read import FeatureFile
from umedfeat.store.schema import SCHEMA, Header
from umedfeat.store.verify import Verified, verify

__all__ = [
    "SCHEMA",
    "FeatureFile",
    "FeatureStore",
    "Header",
    "Item",
    "Verified",
    "merge",
    "missing_shards",
    "refuse_existing",
    "shard_path",
    "verify",
]
