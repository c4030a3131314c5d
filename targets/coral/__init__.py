"""The Coral Edge TPU: which operators it runs, what to rewrite for it, and its compiler."""

from edgeconv.targets.coral.target import Coral

TARGET = Coral()
