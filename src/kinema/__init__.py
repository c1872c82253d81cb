"""Kinema: large video generative models, every stage in one place."""

__version__ = "0.1.0"
