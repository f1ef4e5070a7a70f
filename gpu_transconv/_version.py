"""The version, for whoever names it; imports nothing."""

__version__ = "0.1.0"
