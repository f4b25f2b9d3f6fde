"""What every long-running process needs: to end on a signal, to wait, to die with its parent, to know its host."""
