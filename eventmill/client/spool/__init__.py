"""Staged events until they are acked: segments of records, in files that outlive the process.

Floor by floor: ``record`` is one event as bytes, ``segment`` a file (or a piece of memory) of them,
``owner`` the folder of one process with its lock and checkpoint, ``part`` how far a segment got,
``adopting`` what an ended process left, ``spool`` all that one uploader has to send. ``forking``
keeps forks from the moments in which a child would inherit a lock that nobody has noted.
"""
