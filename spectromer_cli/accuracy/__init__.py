"""How good predictions are beside reference values, and what makes their confidence honest."""
