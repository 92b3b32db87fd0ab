"""Benchmarks: what a delivery costs, measured beside what one could use instead.

Started by ``tests/benchmarks/run``. Every comparison runs its sides in interleaved
rounds, because shared machines drift, and gives the median of the rounds' ratios.
"""
