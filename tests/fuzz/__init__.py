"""What must hold whatever bytes come, tried by a fuzzer that follows the code's branches.

Each surface is a module with `check`, which raises if something does not hold for some bytes,
and `seeds`, from which the search begins. The unit tests try the same checks on a few
hundred mutated seeds (tests/unit/test_fuzz.py); `tests/fuzz/run` goes on for as long as told.
"""
