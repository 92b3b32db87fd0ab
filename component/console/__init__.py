"""The command line's access to the running component, and its output."""
