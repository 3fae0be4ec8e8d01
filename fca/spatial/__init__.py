"""Spatial models: how each source reaches the microphones."""

from fca.spatial.base import SpatialModel, Statistics
from fca.spatial.diagonal import JointlyDiagonal, Rank1
from fca.spatial.full_rank import FullRank

__all__ = ["FullRank", "JointlyDiagonal", "Rank1", "SpatialModel", "Statistics"]
