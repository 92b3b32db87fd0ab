"""The parts of any service process: systemd, the garbage collector, log, events, counters."""
