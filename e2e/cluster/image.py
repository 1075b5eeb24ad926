#!/usr/bin/env python3
"""Makes a one-layer OCI image archive: no daemon, no root, and the same bytes
from the same input.

    image.py OUT.tar NAME:TAG CONFIG CONTENT...

CONFIG is the JSON of the image's runtime configuration ("Entrypoint", "User",
"Env", ...). Each CONTENT puts something at the absolute path DEST:

    SRC=DEST                    a file (executable if SRC is)
    elf:SRC=DEST                a program or library, and the shared libraries
                                that it is linked with, where ldd finds them
    text:TEXT=DEST              a file holding TEXT
    link:TARGET=DEST            a symbolic link
    dir:MODE[,UID:GID]=DEST     a folder; needed only if it's not root's 0755

Folders above DEST are added by themselves. Prints "NAME:TAG DIGEST".
"""
import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
OCI = "application/vnd.oci.image"


def shared_libraries(path):
    """The absolute paths that the dynamic linker would load for `path`."""
    listing = subprocess.run(["ldd", path], capture_output=True, text=True)
    if listing.returncode != 0:  # what ldd says of a static program
        return []
    if "not found" in listing.stdout:
        sys.exit(f"image.py: {path} lacks libraries:\n{listing.stdout}")
    # "libc.so.6 => /lib/libc.so.6 (0x7f...)" or "/lib64/ld-linux.so.2 (0x7f...)"
    words = (word for line in listing.stdout.splitlines() for word in line.split())
    return sorted({word for word in words if word.startswith("/")})


class Tree:
    """The files of the layer, by path without the leading slash."""

    def __init__(self):
        self.entries = {}

    def put(self, dest, mode, kind=tarfile.REGTYPE, data=b"", target="", owner=(0, 0)):
        path = os.path.normpath(dest).strip("/")
        parent = os.path.dirname(path)
        if parent and parent not in self.entries:
            self.put(parent, 0o755, tarfile.DIRTYPE)
        entry = tarfile.TarInfo(path)  # its time is 0, its owner is 0:0
        entry.type, entry.mode, entry.linkname = kind, mode, target
        entry.uid, entry.gid = owner
        entry.size = len(data)
        self.entries[path] = (entry, data)

    def put_file(self, source, dest):
        with open(source, "rb") as file:
            data = file.read()
        self.put(dest, 0o755 if os.access(source, os.X_OK) else 0o644, data=data)

    def add(self, content):
        # TEXT may hold "=", a path in a test image does not.
        source, _, dest = content.rpartition("=")
        if not source or not dest.startswith("/"):
            sys.exit(f"image.py: not of the form SOURCE=/DEST: {content!r}")
        kind, _, rest = source.partition(":")
        if kind == "text":
            self.put(dest, 0o644, data=rest.encode())
        elif kind == "link":
            self.put(dest, 0o777, tarfile.SYMTYPE, target=rest)
        elif kind == "dir":
            mode, _, owner = rest.partition(",")
            uid, gid = map(int, (owner or "0:0").split(":"))
            self.put(dest, int(mode, 8), tarfile.DIRTYPE, owner=(uid, gid))
        elif kind == "elf":
            self.put_file(rest, dest)
            for library in shared_libraries(rest):
                self.put_file(library, library)
        else:
            self.put_file(source, dest)

    def tar(self):
        # Sorted, a folder comes before what is in it.
        return tar([self.entries[path] for path in sorted(self.entries)])


def tar(entries):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry, data in entries:
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def encode(value):
    return json.dumps(value, sort_keys=True).encode()


def main(out, reference, config, *contents):
    tree = Tree()
    for content in contents:
        tree.add(content)
    layer = tree.tar()
    compressed = gzip.compress(layer, 1, mtime=0)
    blobs = {}

    def descriptor(media_type, data, **more):
        blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}

    image_config = encode({
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": json.loads(config),
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        "history": [{"created_by": "image.py"}],
    })
    manifest = encode({
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": descriptor(f"{OCI}.config.v1+json", image_config),
        "layers": [descriptor(f"{OCI}.layer.v1.tar+gzip", compressed)],
    })
    index = encode({
        "schemaVersion": 2,
        "mediaType": f"{OCI}.index.v1+json",
        "manifests": [descriptor(
            f"{OCI}.manifest.v1+json",
            manifest,
            platform={"architecture": ARCHITECTURE, "os": "linux"},
            annotations={
                # The full name for containerd, the tag for everybody else.
                "io.containerd.image.name": reference,
                "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
            },
        )],
    })
    files = {"oci-layout": encode({"imageLayoutVersion": "1.0.0"}), "index.json": index}
    files |= {"blobs/sha256/" + name.split(":")[1]: blobs[name] for name in sorted(blobs)}
    entries = []
    for name, data in files.items():
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        entries.append((entry, data))
    with open(out, "wb") as file:
        file.write(tar(entries))
    print(reference, digest(manifest))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
