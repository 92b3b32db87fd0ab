"""What operators see of the core, and can have it do; it reads the core from outside."""
