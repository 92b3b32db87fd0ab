#!/bin/sh
# Lay the tap out as ejabberd's module installer wants it, then start ejabberd.
set -eu
source=$CONTRIB_MODULES_PATH/sources/mod_mixpam_tap
mkdir -p "$source/src"
cp /tap/mod_mixpam_tap.spec "$source/"
cp /tap/src/*.erl "$source/src/"

# ejabberd.yml takes the secret from this variable; the file itself can be shown around.
EJABBERD_MACRO_MIXPAM_SECRET=$(cat /run/secrets/server-secret)
# With a new database the image makes the two test accounts.
CTL_ON_CREATE="register alice example.org $(cat /run/secrets/alice) ; \
register bob example.org $(cat /run/secrets/bob)"
export EJABBERD_MACRO_MIXPAM_SECRET CTL_ON_CREATE
# ejabberd reads key and certificate from one file.
cat /run/secrets/certificate /run/secrets/key > "$CONTRIB_MODULES_PATH/tls.pem"
# Older images have ejabberdctl in a folder of its own.
PATH=$PATH:/home/ejabberd/bin
exec ejabberdctl foreground
