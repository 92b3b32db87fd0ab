"""The mixpam component: MIX-PAM (XEP-0405) beside an XMPP server, over XEP-0114.

Data flows one way: ``wire`` cuts what ``link`` reads into stanzas, ``core`` decides without any
I/O and answers with effects, ``link`` and ``store`` carry them out. ``engine`` is the shell that
joins them. CONTRIBUTING.md has the map.
"""

__version__ = "1.0.0"
