"""Fetches one http:// URL with a bare socket, which knows nothing of proxies."""

import socket
import sys
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
with socket.create_connection((url.hostname, url.port or 80), timeout=30) as conn:
    conn.sendall(f"GET {url.path} HTTP/1.0\r\nHost: {url.hostname}\r\n\r\n".encode())
    response = b"".join(iter(lambda: conn.recv(65536), b""))
head, _, body = response.partition(b"\r\n\r\n")
sys.stdout.write(body.decode())
sys.exit(0 if b" 200 " in head.splitlines()[0] else 1)
