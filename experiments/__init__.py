"""One module a table, figure or bench, tools under `assets`, attacks under `attacks`: `python -m experiments.<name>`."""
