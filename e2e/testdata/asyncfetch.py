"""Fetches one URL with asyncio's streams."""

import asyncio
import ssl
import sys
from urllib.parse import urlsplit


async def main():
    url = urlsplit(sys.argv[1])
    tls = ssl.create_default_context() if url.scheme == "https" else None
    reader, writer = await asyncio.open_connection(url.hostname, url.port or (443 if tls else 80), ssl=tls)
    writer.write(f"GET {url.path} HTTP/1.0\r\nHost: {url.hostname}\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    sys.stdout.write(body.decode())
    return 0 if b" 200 " in head.splitlines()[0] else 1


sys.exit(asyncio.run(main()))
