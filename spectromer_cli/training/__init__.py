"""Training: simulated and real spectra, augmentation, the loop."""
