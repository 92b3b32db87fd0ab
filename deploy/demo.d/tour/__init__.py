"""The demo: a whole mixpam system on this machine, and a tour of it that checks what it says.

`deploy/demo` installs what is missing and then runs this package with
``python -m tour``. It starts a private Redis, the XMPP server with the example
configuration that operators get, and the component, all on loopback and in one
temporary folder; then slixmpp's own clients play a short story.
"""
