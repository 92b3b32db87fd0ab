"""The link: one XEP-0114 stream to the server, from connecting to its end."""
