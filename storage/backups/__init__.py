"""Backups: a dump of the database, and the objects that it names, kept by their sha256 so that each is copied once.

The dump comes first. An object is stored before the row that names it is committed, so whatever the dump names was
there when its snapshot was taken; what is deleted while the objects are copied is found missing, and the dump is made
anew, without it. What has no row yet belongs to nobody and is not copied.

Not in a backup: checkpoints (a job that was running starts anew when it is restored), imports under way, and who was
alive. Tokens are in it as their hashes; the administrator's token only where that is asked for.
"""
