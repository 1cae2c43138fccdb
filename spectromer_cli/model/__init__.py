"""The model: a timm ViT with heads, its tasks, and its weights."""
