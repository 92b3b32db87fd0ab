"""The test harness: real servers, real clients and scripted peers, all on loopback.

Nothing here knows mixpam's behaviour; it starts processes, speaks XMPP by hand and records received
stanzas. Tests import it as ``harness``.
"""
