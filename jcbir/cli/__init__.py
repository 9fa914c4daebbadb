"""What the command line does: option records that load at once, and one function for each, loaded when it is called."""
