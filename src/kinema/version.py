"""The one place of the version's number."""

__version__ = "0.1.0"
