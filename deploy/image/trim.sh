#!/bin/sh
# Leave out of the dependencies what the component never opens.
#
# Usage: trim.sh SITE_PACKAGES
set -eu
cd "$1"
# Translations of dates and numbers: aioxmpp imports babel, mixpam prints in English.
find babel/locale-data -name '*.dat' ! -name root.dat ! -name 'en*.dat' -delete
# What only a C compiler reads.
find . \( -name '*.pxd' -o -name '*.pyx' -o -name '*.pxi' -o -name '*.h' -o -name '*.c' \
    -o -name '*.cpp' \) -type f -delete
# Parts of lxml for HTML, Schematron and objects: XMPP has none of them.
rm -rf lxml/html lxml/isoschematron lxml/objectify* lxml/includes
# Typer imports rich, rich imports pygments; nothing here is ever coloured.
find pygments/lexers pygments/styles -name '*.py' ! -name __init__.py ! -name '_mapping.py' \
    ! -name default.py -delete
# Time zones: the log is in UTC.
find pytz/zoneinfo -type f ! -name UTC ! -name '*.tab' -delete
# The packages' own tests, and the installer's notes with the build's paths.
find . -type d \( -name tests -o -name e2etest \) -prune -exec rm -rf {} +
find . -path '*.dist-info/*' \( -name direct_url.json -o -name REQUESTED \) -delete
