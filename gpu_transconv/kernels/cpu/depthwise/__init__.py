"""Layers in which no channel meets another: no matrix products, but short filters over rows in cache."""
