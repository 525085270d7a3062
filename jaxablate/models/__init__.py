"""Decoder models: their configs, layers and cache, and the families whose checkpoints they read."""
