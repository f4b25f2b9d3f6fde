"""What clients read of a repository: its files and its history."""
