"""The mixpam component: MIX-PAM (XEP-0405) beside an XMPP server, over XEP-0114.

Data flows one way: ``link`` frames what the server sends and sorts it into two
lanes, ``core`` decides without any I/O and answers with effects, ``link`` and
``store`` carry them out. ``service`` is the thin shell that joins them.
"""

__version__ = "0.1.0"
