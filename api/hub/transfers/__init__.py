"""Content on its way here, as git's large files or as chunks of Xet."""
