"""Multiple-choice evaluation under masks: tasks, encoding, running, metrics."""
