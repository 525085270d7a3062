#!/usr/bin/env bash
# Set up, then build the documentation into build/site; a warning is an error.
# Arguments go to sphinx-build; open build/site/index.html in a browser.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh docs
export JAX_PLATFORMS=cpu
exec "${VENV:-.venv}/bin/python" -m sphinx --builder html --fail-on-warning --keep-going --nitpicky \
    --quiet "$@" docs build/site
