"""Fetches one URL with requests and its default trust."""

import sys

import requests

response = requests.get(sys.argv[1], timeout=30)
sys.stdout.write(response.text)
sys.exit(0 if response.ok else 1)
