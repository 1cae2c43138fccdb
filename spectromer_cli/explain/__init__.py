"""Where in wavelength the model looked, by several methods whose faithfulness is measured."""

# The one whose deletion and insertion curves are best: see docs/explanations.md.
DEFAULT_METHOD = "gradients"
