#!/usr/bin/env bash
# Set up, then lint, check the layers and the types, and run the tests.
# Arguments go to pytest; without any, the whole quick suite runs on two processes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh test dev
bin="${VENV:-.venv}/bin"
# Many tests start processes: what one of them has compiled from source is there for the next.
unset PYTHONDONTWRITEBYTECODE

echo "test: ruff"
"$bin/ruff" check --quiet .
"$bin/ruff" format --check --quiet .
echo "test: layers"
"$bin/lint-imports" --no-cache
echo "test: types, told at the end if there is anything to tell"
said=$(mktemp)
"$bin/pyright" --pythonpath "$bin/python" --warnings >"$said" 2>&1 &
types=$!
trap 'kill "$types" 2>/dev/null || true; rm -f "$said"' EXIT
echo "test: pytest"
if [[ $# -eq 0 ]]; then
    set -- -n 2 --dist worksteal
fi
code=0
"$bin/python" -m pytest -q "$@" || code=$?
if ! wait "$types"; then
    cat "$said"
    exit 1
fi
exit "$code"
