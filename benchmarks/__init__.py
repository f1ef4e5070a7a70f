"""Measurements: an asv suite over the implementations, and a comparison with other libraries."""
