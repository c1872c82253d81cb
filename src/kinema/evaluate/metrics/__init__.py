"""What can be measured of generated videos: each file a family of small functions, `table.py` the one list of them all.

A metric is named for what it is computed with. Published names (DINO, CLIP, FVD ...) are kept for the published networks, which are
used where their weights lie on this machine (`published.py`); what stands in for them offline has a name of its own.
"""
