"""One module a table, figure or bench; tools in `assets`, attacks in `attacks`: `python -m experiments.<name>`."""
