"""Simulated recordings with their references: rooms, talkers who stand or walk, noise, sets.

Waveforms are ``(..., channels, samples)`` NumPy arrays, lengths are in metres and times in seconds.
All random numbers come from the generator that the caller passes.
"""

from fca.simulate.diffuse import diffuse_coherence, diffuse_noise
from fca.simulate.mixtures import Mixture, mix
from fca.simulate.rooms import Scene, random_scene, reverberation_time, room_responses

__all__ = [
    "Mixture",
    "Scene",
    "diffuse_coherence",
    "diffuse_noise",
    "mix",
    "random_scene",
    "reverberation_time",
    "room_responses",
]
