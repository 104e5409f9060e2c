#!/bin/sh
# What a newcomer does first, by the README: in an empty folder, with an empty home, and with nothing of this clone but
# what Git tracks.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/home"
git clone --quiet . "$folder/clone"
cd "$folder/clone"
env -i HOME="$folder/home" LANG=C.UTF-8 PATH="$PATH" sh -euxc '
    make repro
    . .venv/bin/activate
    backbeat transcribe docs/demo.flac -o out/ --csv
    test -s out/demo.mid
    dvc metrics diff
'
