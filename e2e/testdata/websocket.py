"""Speaks WebSocket through a CONNECT tunnel of the proxy.

Arguments: the proxy as host:port, and the ws:// or wss:// URL. Each line of
standard input is sent as a message. The replies go to standard output.
"""

import asyncio
import http.client
import ssl
import sys
from urllib.parse import urlsplit

import websockets


def tunnel(proxy, host, port):
    """Opens the tunnel with CONNECT of the standard library."""
    connection = http.client.HTTPConnection(proxy, timeout=30)
    connection.set_tunnel(host, port)
    connection.connect()
    connection.sock.settimeout(None)
    return connection.sock


async def talk(proxy, url):
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    sock = tunnel(proxy, parts.hostname, parts.port or (443 if secure else 80))
    tls = {}
    if secure:
        tls = {"ssl": ssl.create_default_context(), "server_hostname": parts.hostname}
    async with websockets.connect(url, sock=sock, max_size=None, **tls) as socket:
        for line in sys.stdin:
            await socket.send(line.rstrip("\n"))
            print(await socket.recv(), flush=True)


try:
    asyncio.run(talk(*sys.argv[1:]))
except OSError as error:
    sys.exit(f"websocket.py: {error}")
