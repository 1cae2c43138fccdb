"""Predictions compared with reference values, and the calibration of their confidences."""
