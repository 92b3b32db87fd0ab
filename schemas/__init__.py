"""Data formats: XML payloads, JIDs, settings and records.

The only package that knows aioxmpp: its XSO language, its disco, version and error
classes and its string preparation are used from here and nowhere else.
"""
