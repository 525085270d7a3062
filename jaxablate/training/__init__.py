"""Finetuning under a mask: state, optimisers, schedules and the compiled step."""
