"""Sends DNS queries given as SERVER NAME TYPE, and prints one line for each response:
its code, its addresses or names, its extended error, and the server that it came from.
With TCP=1 in the environment, it uses TCP."""

import os
import socket
import struct
import sys

TYPES = {"A": 1, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "HTTPS": 65}


def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def skip_name(message, at):
    while message[at]:
        if message[at] >= 0xC0:
            return at + 2
        at += 1 + message[at]
    return at + 1


def read_name(message, at):
    labels = []
    while message[at]:
        if message[at] >= 0xC0:
            at = (message[at] & 0x3F) << 8 | message[at + 1]
            continue
        labels.append(message[at + 1 : at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels)


def exchange(server, query):
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    if os.environ.get("TCP"):
        with socket.create_connection((server, 53), timeout=20) as conn:
            conn.sendall(struct.pack("!H", len(query)) + query)
            stream = conn.makefile("rb")
            return stream.read(struct.unpack("!H", stream.read(2))[0]), server
    with socket.socket(family, socket.SOCK_DGRAM) as conn:  # not connected: any sender is seen
        conn.settimeout(20)
        conn.sendto(query, (server, 53))
        response, sender = conn.recvfrom(65535)
        return response, sender[0]


for server, name, kind in zip(sys.argv[1::3], sys.argv[2::3], sys.argv[3::3]):
    question = encode(name) + struct.pack("!HH", TYPES[kind], 1)
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
    response, sender = exchange(server, struct.pack("!6H", 7, 0x100, 1, 0, 0, 1) + question + opt)
    _, flags, _, answers, _, more = struct.unpack("!6H", response[:12])
    at = skip_name(response, 12) + 4
    data, error = [], ""
    for i in range(answers + more):
        at = skip_name(response, at)
        rtype, _, _, length = struct.unpack("!HHIH", response[at : at + 10])
        at += 10
        if rtype == 1:
            data.append(socket.inet_ntop(socket.AF_INET, response[at : at + 4]))
        elif rtype == 28:
            data.append(socket.inet_ntop(socket.AF_INET6, response[at : at + 16]))
        elif rtype == 12:
            data.append(read_name(response, at))
        elif rtype == 41 and length >= 6:
            code, size, info = struct.unpack("!HHH", response[at : at + 6])
            error = f"{code}:{info}:{response[at + 6 : at + 4 + size].decode()}"
        at += length
    print(f"{flags & 15} {','.join(data) or '-'} {error or '-'} {sender}")
