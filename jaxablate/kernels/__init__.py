"""Attention under a lowered mask. Each kernel serves a mask exactly or declines with a reason."""
