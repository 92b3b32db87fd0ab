"""Metrics, health and the status page: everything served over HTTP.

The lanes and the store count in plain integers (`component.core.lane_counts`,
`component.process.counters`), `watch` keeps reported events; every response is made from those, and
from the core, on request. Only `control` changes anything.
"""
