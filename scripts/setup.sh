#!/usr/bin/env bash
# Make the virtual environment and install jaxablate with the extras named as arguments.
#
#   bash scripts/setup.sh             the package alone
#   bash scripts/setup.sh test dev    with what the tests need
#
# PYTHON chooses the interpreter (3.11 or newer), VENV the folder (default .venv). A second call
# with the same extras and an unchanged pyproject.toml does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${VENV:-.venv}
extras=$(IFS=,; echo "$*")
stamp="$venv/.installed-${extras:-base}"

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "setup: Python 3.11 or newer is needed; set PYTHON to one" >&2
    return 1
}

if [[ -f $stamp && ! pyproject.toml -nt $stamp ]]; then
    exit 0
fi
if [[ ! -x $venv/bin/python ]]; then
    python=$(find_python)
    echo "setup: making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi
echo "setup: installing jaxablate${extras:+ with $extras}"
# Most modules of the dependencies are never imported, so none is compiled ahead.
"$venv/bin/python" -m pip install -qq --no-compile --editable ".${extras:+[$extras]}"
"$venv/bin/python" -m pip check --quiet || "$venv/bin/python" -m pip check
touch "$stamp"
