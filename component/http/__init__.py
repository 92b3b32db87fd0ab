"""Metrics, health and the status page: all that can be asked over HTTP, reading only.

The lanes and the store count in plain integers (`component.process.counters`), `watch` keeps what
was reported; everything here is made from those, and from the core, when somebody asks.
"""
