"""A client of the Kubernetes API for the cluster's own small servers."""
import http.client
import json
import ssl
import urllib.parse


class Api:
    """One connection, kept open; for use by one thread."""

    def __init__(self, server, ca, certificate, key):
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(certificate, key)
        address = urllib.parse.urlsplit(server).netloc
        self.connection = http.client.HTTPSConnection(address, context=context, timeout=5)

    def call(self, method, path, body=None):
        """The answer's JSON, or None where there is no such object."""
        try:
            data = None if body is None else json.dumps(body)
            self.connection.request(method, path, data, {"Content-Type": "application/json"})
            response = self.connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()  # the next call connects again
            raise
        if response.status == 404:
            return None
        if response.status >= 300:
            raise OSError(f"{method} {path}: {response.status} {answer[:500]!r}")
        return json.loads(answer)

    def items(self, path):
        return self.call("GET", path)["items"]
