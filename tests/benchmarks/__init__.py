"""Benchmarks: the cost of a delivery, measured beside the alternatives.

Started by ``tests/benchmarks/run``. Every comparison runs its sides in interleaved
rounds, because shared machines drift, and gives the median of the rounds' ratios.
"""
