#!/usr/bin/env bash
# Set up, then lint, check the layers and the types, and run the tests.
# Arguments go to pytest; without any, the whole quick suite runs on two processes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh test dev
bin="${VENV:-.venv}/bin"

echo "test: ruff"
"$bin/ruff" check --quiet .
"$bin/ruff" format --check --quiet .
echo "test: layers"
"$bin/lint-imports" --no-cache
echo "test: types"
"$bin/pyright" --pythonpath "$bin/python" --warnings
echo "test: pytest"
if [[ $# -eq 0 ]]; then
    set -- -n 2 --dist worksteal
fi
exec "$bin/python" -m pytest -q "$@"
