"""Bytes as they stand on the link: cut into stanzas and looked at without a parser."""
