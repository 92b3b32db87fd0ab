"""The programs compared over TCP: each engine connects to a port and fans a stream out.

An engine is started as ``python -m benchmarks.engines.NAME PORT DEVICES``, prints
"ready" when it has its state, and gets a component's stream.
"""
