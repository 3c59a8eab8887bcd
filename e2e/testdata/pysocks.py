"""Sends a request through a SOCKS5 proxy with PySocks and prints the result as JSON.

    pysocks.py PROXY_PORT tcp HOST PORT      an HTTP request for /hello
    pysocks.py PROXY_PORT dns HOST PORT NAME a DNS query for NAME over UDP
"""

import json
import socket
import struct
import sys

import socks

proxy_port, kind, host, port = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
sock = socks.socksocket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
sock.set_proxy(socks.SOCKS5, "127.0.0.1", proxy_port, rdns=True)
result = {}
try:
    if kind == "tcp":
        sock.settimeout(30)
        sock.connect((host, port))
        sock.sendall(f"GET /hello HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        reply = b""
        while chunk := sock.recv(4096):
            reply += chunk
        result["body"] = reply.partition(b"\r\n\r\n")[2].decode()
    else:
        labels = b"".join(bytes([len(label)]) + label.encode() for label in sys.argv[5].split("."))
        query = struct.pack(">6H", 4711, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
        sock.settimeout(2)
        sock.sendto(query, (host, port))
        reply, sender = sock.recvfrom(4096)
        result["sender"] = f"{sender[0]}:{sender[1]}"
        result["id_matches"] = reply[:2] == query[:2]
        result["address"] = socket.inet_ntoa(reply[-4:])
except socks.ProxyError as error:
    result["refused"] = str(error)
except socket.timeout:
    result["timeout"] = True
json.dump(result, sys.stdout)
