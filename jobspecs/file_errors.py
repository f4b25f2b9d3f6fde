"""What keeps a file or folder from being read or written, in words for whoever named it."""

from __future__ import annotations

import errno

_WORDS = {
    errno.ENOENT: "it does not exist",
    errno.EISDIR: "it is a folder, and a file is needed; name the file",
    errno.ENOTDIR: "it, or a folder that it would lie in, is a file; name a folder",
    errno.EEXIST: "it is there already, and is no folder; choose another place",
    errno.EACCES: "you may not, by its owner or mode; change them, or choose another place",
    errno.EPERM: "you may not; choose another place",
    errno.EROFS: "its disk can only be read; choose another place",
    errno.ENOSPC: "the disk is full; make room, or choose another place",
    errno.EDQUOT: "your share of the disk is used up; make room, or choose another place",
    errno.EFBIG: "it would be larger than this file system allows; choose another place",
    errno.ENAMETOOLONG: "its name is too long; choose a shorter one",
    errno.ELOOP: "its links lead round in a circle; name the file itself",
    errno.EIO: "the disk reports a defect; look at the system's log",
    errno.EMFILE: "too many files are open; close some, or raise `ulimit -n`",
}


def why_not(error: OSError) -> str:
    """Why, and what to do, without a full stop: for behind `PATH can't be read: `."""
    known = _WORDS.get(error.errno) if error.errno is not None else None
    return known or (error.strerror or str(error) or "the system gives no reason").rstrip(".")
