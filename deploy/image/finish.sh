#!/bin/sh
# Compile what was installed and take the time out of it, so that the same input makes
# the same layer, byte for byte.
#
# Bytecode is made here because the container's root may be read-only; it is not checked
# against the sources again (unchecked-hash), so neither depends on any clock.
#
# Usage: finish.sh FOLDER
set -eu
image=$1
find "$image" -name __pycache__ -prune -exec rm -rf {} +
# One process at a time: workers would leave their order in the files.
python3.12 -m compileall -q -j 1 -s "$image" --invalidation-mode unchecked-hash \
    "$image/usr/local/lib/python3.12"
find "$image" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
