"""Fetches one URL with urllib and prints the result as JSON."""

import json
import sys
import urllib.error
import urllib.request


def outcome(response):
    return {
        "status": response.status,
        "headers": {name.lower(): value for name, value in response.headers.items()},
        "body": response.read().decode(),
    }


try:
    with urllib.request.urlopen(sys.argv[1], timeout=30) as response:
        result = outcome(response)
except urllib.error.HTTPError as error:
    result = outcome(error)
except urllib.error.URLError as error:
    result = {"error": str(error.reason)}
json.dump(result, sys.stdout)
