"""The core: every rule of XEP-0405, and no socket, clock or Redis.

Stanzas, events and stored state go in; effects come out (`effects`). The shell gives
the time and carries the effects out. One module for each thing the XEP speaks of.
"""
