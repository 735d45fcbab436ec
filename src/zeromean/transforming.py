"""Measures what a transform makes of each picture, beside the picture itself."""
