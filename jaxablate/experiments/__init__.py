"""Several runs as one experiment: stages that need each other, each a run folder, resumable."""
