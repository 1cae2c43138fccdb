"""How good predictions are, beside reference values, and how that is reported."""
