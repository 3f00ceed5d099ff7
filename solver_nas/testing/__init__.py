"""Oracles, laws and specimens: for this library's tests and for authors of own operations."""
