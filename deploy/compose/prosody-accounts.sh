#!/bin/sh
# Make the two test accounts, before Prosody runs.
set -eu
for name in alice bob; do
    [ -e "/var/lib/prosody/example%2eorg/accounts/$name.dat" ] && continue
    prosodyctl register "$name" example.org "$(cat "/run/secrets/$name")"
done
