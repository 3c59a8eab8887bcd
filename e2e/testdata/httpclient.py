"""Fetches one URL with http.client through the proxy in https_proxy.

http.client itself does not read the environment.
"""

import http.client
import os
import ssl
import sys
import urllib.parse

url = urllib.parse.urlsplit(sys.argv[1])
proxy = urllib.parse.urlsplit(os.environ["https_proxy"])
if url.scheme == "https":
    connection = http.client.HTTPSConnection(proxy.hostname, proxy.port, context=ssl.create_default_context())
    connection.set_tunnel(url.hostname, 443)
    connection.request("GET", url.path)
else:
    connection = http.client.HTTPConnection(proxy.hostname, proxy.port)
    connection.request("GET", sys.argv[1])
response = connection.getresponse()
sys.stdout.write(response.read().decode())
sys.exit(response.status != 200)
