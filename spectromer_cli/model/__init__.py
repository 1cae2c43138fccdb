"""The model: a ViT with heads, its tasks, and its weights."""
