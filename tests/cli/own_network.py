"""Run a command without a network, and count whatever it asks a name server.

Started as root by ``unshare --net --mount``; arguments: a scratch folder, then the command. Prints
the number of questions as its last line. It asks one itself first, so that deafness cannot pass for
silence.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def main() -> int:
    """Return the exit status of the command."""
    folder, *command = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    resolver = Path(folder) / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", str(resolver), "/etc/resolv.conf"], check=True)
    questions: list[bytes] = []
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def listen() -> None:
        while True:
            questions.append(server.recv(4096))

    threading.Thread(target=listen, daemon=True).start()
    with suppress(socket.gaierror):
        socket.getaddrinfo("control.example", 443)
    if not questions:
        sys.exit("the control question was not heard")
    questions.clear()
    status = subprocess.run(command, check=False).returncode
    sys.stdout.write(f"{len(questions)} questions {questions[:3]}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
