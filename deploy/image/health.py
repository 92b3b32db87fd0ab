#!/usr/local/bin/python3.12
"""Ask the component in this container whether it is alive: `/healthz`.

Ends with 0 if it is. Where HTTP is switched off (MIXPAM_HTTP_PORT=0) there is nothing to
ask, and a process that runs counts as alive.
"""

import http.client
import os
import sys

host = os.environ.get("MIXPAM_HTTP_HOST", "127.0.0.1")
port = int(os.environ.get("MIXPAM_HTTP_PORT", "5405") or 0)
if port:
    everywhere = host in {"0.0.0.0", "::"}  # noqa: S104 - nothing is bound here
    connection = http.client.HTTPConnection("127.0.0.1" if everywhere else host, port, timeout=4)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
    except OSError as error:
        sys.exit(f"{host}:{port}: {error}")
    if answer.status != http.HTTPStatus.OK:
        sys.exit(f"{host}:{port}: {answer.status} {answer.reason}")
