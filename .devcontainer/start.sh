#!/bin/sh
# What a container does before somebody works in it: install the programs, bring the data.
#
#   sh .devcontainer/start.sh [setup|data|all]
#
# The phase may also be in BACKBEAT_PHASE; by default it is both. The exit code is always 0: where one command of a
# container's life fails, all later ones are skipped. What is missing is said, with what to type.
set -u
cd "$(dirname "$0")/.." || exit 0
phase=${1:-${BACKBEAT_PHASE:-all}}

setup() {
    # With TORCH=cpu in the environment, make takes the small build of PyTorch, for which the lock has no hashes.
    make setup || echo "next: make setup, and read what it says" >&2
}

data() {
    PATH=$PWD/.venv/bin:$PATH
    export PATH
    if ! command -v backbeat >/dev/null; then
        echo "the programs are not installed" >&2
        echo "next: make setup && . .venv/bin/activate && backbeat codespace start" >&2
        return
    fi
    # Keys are in the environment; nothing may wait for somebody who could type them.
    backbeat codespace start </dev/null || echo "next: backbeat doctor, then: backbeat codespace start" >&2
    if [ -n "${BACKBEAT_AUTO_DOWNLOAD:-}" ]; then
        backbeat datasets download --auto </dev/null || echo "next: backbeat datasets download --auto" >&2
    fi
}

case $phase in
    setup) setup ;;
    data) data ;;
    all) setup; data ;;
    *) echo "no such phase: $phase; expected setup, data or all" >&2 ;;
esac
exit 0
