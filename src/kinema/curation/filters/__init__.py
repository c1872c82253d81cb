"""What can be measured of a clip: each file a few pure functions on decoded frames, with their units, ranges and sources.

Definitions, thresholds and measured recall and precision stand in docs/filters.md.
"""
