"""`python -m jaxablate` is the same as the `jaxablate` script."""

import sys

from jaxablate.cli import main

if __name__ == "__main__":
    sys.exit(main())
