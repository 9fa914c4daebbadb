"""How a message begins: what tells it from another file unread. Imports nothing, for who has no time to."""

MAGIC, VERSION = b"JCBM", 3
ENROLLMENT_KIND, ADMISSION_KIND = 5, 6
"""Of the messages that travel as files."""
