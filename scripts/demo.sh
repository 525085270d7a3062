#!/usr/bin/env bash
# Set up, then run the whole job on a tiny random model: convert, evaluate under three masks, report.
# Arguments go to `jaxablate demo`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec "${VENV:-.venv}/bin/jaxablate" demo "$@"
