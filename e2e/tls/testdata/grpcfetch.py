"""Calls the methods Unary and Bidi of the service grpc.test.Echo with gRPC's own client.

    grpcfetch.py HOST:PORT

It prints the messages of the server.
"""

import queue
import sys

import grpc

with grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials()) as channel:
    unary = channel.unary_unary("/grpc.test.Echo/Unary")
    response, call = unary.with_call(b"one", timeout=60)
    print(response.decode(), call.code().name, call.details())

    # The server speaks first, and then both take turns.
    requests = queue.SimpleQueue()
    call = channel.stream_stream("/grpc.test.Echo/Bidi")(iter(requests.get, None), timeout=60)
    print(next(call).decode())
    for message in ("two", "three"):
        requests.put(message.encode())
        print(next(call).decode())
    requests.put(None)
    print(len(list(call)), call.code().name)
