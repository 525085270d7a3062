"""Loss terms: arrays in, (sum, count) out; one idea a file."""
