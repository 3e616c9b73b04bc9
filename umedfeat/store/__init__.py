"""The feature file: written in segments, packed into one HDF5 file, read with FeatureFile."""

from umedfeat.store.feature_store import FeatureStore, shard_path
from umedfeat.store.item import Item
from umedfeat.store.merge import merge
from umedfeat.store.read import FeatureFile
from umedfeat.store.schema import SCHEMA, Header

__all__ = ["SCHEMA", "FeatureFile", "FeatureStore", "Header", "Item", "merge", "shard_path"]
