"""The test house: real servers, real clients and scripted peers, all on loopback.

Nothing here knows what mixpam does; it starts processes, speaks XMPP by hand and
keeps what arrived. Tests import it as ``harness``.
"""
