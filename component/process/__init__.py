"""What belongs to any process: systemd, the garbage collector, log, events, counters."""
