"""The load generator: light clients and a light channel service on one event loop.

A test client that parses all it gets would be the bottleneck; these count.
"""
