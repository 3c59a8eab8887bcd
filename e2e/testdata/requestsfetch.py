"""Fetches one URL with requests. Trusts the CA in SSL_CERT_FILE."""

import os
import sys

import requests

response = requests.get(sys.argv[1], timeout=30, verify=os.environ["SSL_CERT_FILE"])
sys.stdout.write(response.text)
sys.exit(0 if response.ok else 1)
