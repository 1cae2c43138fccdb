"""Synthetic spectra of known class and redshift."""
