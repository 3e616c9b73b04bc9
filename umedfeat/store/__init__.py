"""The feature file: written in segments, packed into one HDF5 file, read with FeatureFile."""

from umedfeat.store.export import Exported, export
from umedfeat.store.feature_store import FeatureStore
from umedfeat.store.item import Item
from umedfeat.store.merge import merge, refuse_existing
from umedfeat.store.read import FeatureFile
from umedfeat.store.schema import SCHEMA, Header
from umedfeat.store.shard import Shard, refuse_incomplete, shard_path
from umedfeat.store.verify import Verified, verify

__all__ = [
    "SCHEMA",
    "Exported",
    "FeatureFile",
    "FeatureStore",
    "Header",
    "Item",
    "Shard",
    "Verified",
    "export",
    "merge",
    "refuse_existing",
    "refuse_incomplete",
    "shard_path",
    "verify",
]
