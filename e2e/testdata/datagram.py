"""Sends a datagram to HOST PORT on a connected socket and prints the response.

    datagram.py HOST PORT SECONDS [TEXT]

It waits for SECONDS at most. TEXT is "ping" by default.
"""

import socket
import sys

family, _, _, _, addr = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]), type=socket.SOCK_DGRAM)[0]
with socket.socket(family, socket.SOCK_DGRAM) as conn:
    conn.settimeout(float(sys.argv[3]))
    conn.connect(addr)
    conn.send((sys.argv[4] if len(sys.argv) > 4 else "ping").encode())
    print(conn.recv(1500).decode())
