"""The command line's ways to the running component and to the operator's screen."""
