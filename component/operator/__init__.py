"""Views and commands for operators; the core is read from outside."""
