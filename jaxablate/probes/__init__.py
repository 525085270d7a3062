"""Leakage measured on the live backend; its static twin is `jaxablate.masks.leak`."""
