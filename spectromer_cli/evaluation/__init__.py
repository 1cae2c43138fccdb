"""How well predictions agree with reference values."""
