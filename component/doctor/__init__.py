"""`mixpam check`: looks at settings, Redis and server, and says what to change, and where.

Each module looks at one thing and yields `Result`s; nothing here is needed to run the
component, and nothing here changes what it finds.
"""
