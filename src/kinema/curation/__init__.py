"""Curation: from a folder of raw videos to captioned training tiers."""
