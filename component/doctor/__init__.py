"""`mixpam check`: looks at settings, Redis and server, and says what to change, and where.

Each module examines one thing and yields `Result`s; the component itself needs none of this, and no
check changes what it finds.
"""
