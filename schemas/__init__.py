"""Data formats: XML payloads, JIDs, settings and records.

The only package that uses aioxmpp: its XSOs, its disco, version and error classes and its string
preparation.
"""
