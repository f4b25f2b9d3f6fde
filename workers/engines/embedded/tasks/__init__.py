"""What a loaded model does. One task = one file here and one line in `registry`."""
