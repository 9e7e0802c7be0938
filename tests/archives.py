"""Tar archives in memory, with members that `tarfile` would not make from files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable


def archive_bytes(members: Iterable[tuple[str, bytes | None]], kind: bytes = tarfile.SYMTYPE) -> bytes:
    """A tar archive; a member without content is of this kind, by default a link, and leads to /etc/passwd."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = kind, "/etc/passwd"
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()
