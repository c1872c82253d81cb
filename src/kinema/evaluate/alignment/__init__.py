"""A small image-text and video-text model of our own, over frozen backbones that come as packages."""
