"""Other people's front doors: the model for lm-evaluation-harness."""
