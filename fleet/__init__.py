"""The fleet: tickets in, gated pull requests out."""

__version__ = "0.1.0"
