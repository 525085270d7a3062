"""Stand-ins for the work of stages."""

from tests.experiments.small import work

__all__ = ["work"]
