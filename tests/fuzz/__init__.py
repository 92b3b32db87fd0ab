"""Invariants that must hold for any input bytes, checked by a coverage-guided fuzzer.

Each surface is a module with `check`, which raises if an invariant does not hold for some bytes,
and `seeds`, from which the search begins. The unit tests run the same checks on a few hundred
mutated seeds (tests/unit/test_fuzz.py); `tests/fuzz/run` goes on for a given time.
"""
