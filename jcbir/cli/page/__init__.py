"""Local pages for user and owner: served to this machine alone, behind a link that is good once."""
