"""The link: one XEP-0114 stream to the server, its two lanes, its life and death."""
