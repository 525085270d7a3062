"""Texts and rows: tokenizers, benchmark files, their schemas and digests. Never imports jax."""
