#!/usr/bin/env bash
# Set up, then run a whole study on the small model that comes with the package, and its report.
# Arguments go to `jaxablate quickstart`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec "${VENV:-.venv}/bin/jaxablate" quickstart "$@"
