"""The compiled ways to run a decoder under a mask: forward, score, generate."""
