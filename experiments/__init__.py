"""One module per table, figure or asset; run each as `python -m experiments.<name>`."""
