"""Weights: found by name, verified, saved, published."""
