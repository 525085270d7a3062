"""What a run leaves behind: folder, lock, manifest, journal, statistics. Never imports jax."""
