"""Run folders in, one HTML page and its Markdown twin out. Reads what a run left, nothing else."""
