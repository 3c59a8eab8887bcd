"""Fetches one http:// URL through a proxy on a unix socket."""

import socket
import sys
import urllib.parse

path, url = sys.argv[1:]
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
host = urllib.parse.urlsplit(url).netloc
connection.sendall(f"GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
response = connection.makefile("rb").read().decode()
header, _, body = response.partition("\r\n\r\n")
sys.stdout.write(body)
sys.exit(" 200 " not in header.partition("\r\n")[0])
