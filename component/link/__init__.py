"""The link: one XEP-0114 stream to the server, its life and death."""
