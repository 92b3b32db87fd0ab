"""Metrics, health and the status page: all that can be asked over HTTP.

The lanes and the store count in plain integers (`component.core.lane_counts`,
`component.process.counters`), `watch` keeps what was reported; everything here is made from
those, and from the core, when somebody asks. `control` alone changes something.
"""
