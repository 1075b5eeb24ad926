#!/usr/bin/env python3
"""The cluster's DNS: A records of Services, asked from the API server at each
query, so that a Service resolves as soon as it exists.

    dns.py ADDRESS PORT API-SERVER CA CERTIFICATE KEY

    <service>.<namespace>.svc.cluster.local            its ClusterIP; of a
                                                       headless one: its pods
    <pod>.<service>.<namespace>.svc.cluster.local      of a headless Service

All other names do not exist: nothing is forwarded, pods have no internet.
Other record types of a name that exists (AAAA) get an empty answer.
"""
import socket
import struct
import sys
import threading
import time

from api import Api

ZONE = ["svc", "cluster", "local"]
A, IN = 1, 1
TTL = 5  # seconds
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


class Zone:
    """Looks names up; for use by one thread."""

    REMEMBERED = 1.0  # seconds; spares the API server when many pods ask at once

    def __init__(self, api):
        self.api = api
        self.memory = {}

    def addresses(self, name):
        """The IPv4 addresses of `name`, or None when it does not exist."""
        at, found = self.memory.get(name, (0.0, None))
        if found and time.monotonic() - at < self.REMEMBERED:
            return found
        found = self.look_up(name.split("."))
        if len(self.memory) > 1000:
            self.memory.clear()
        self.memory[name] = (time.monotonic(), found)
        return found

    def look_up(self, labels):
        host = labels[:-3]
        if labels[-3:] != ZONE or len(host) not in (2, 3):
            return None
        *pod, service, namespace = host
        if not all(label.replace("-", "").isalnum() for label in host):
            return None
        found = self.api.call("GET", f"/api/v1/namespaces/{namespace}/services/{service}")
        if found is None:
            return None
        ip = found["spec"].get("clusterIP")
        if ip and ip != "None":
            return None if pod else [ip]
        return self.endpoints(namespace, service, found["spec"], pod)

    def endpoints(self, namespace, service, spec, pod):
        found = []
        for part in self.api.items(
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
            f"?labelSelector=kubernetes.io%2Fservice-name%3D{service}"
        ):
            for endpoint in part.get("endpoints") or []:
                ready = endpoint.get("conditions", {}).get("ready", True)
                if not ready and not spec.get("publishNotReadyAddresses"):
                    continue
                if not pod or endpoint.get("hostname") == pod[0]:
                    found += endpoint["addresses"]
        return found or (None if pod else [])


def answer(zone, query):
    """The reply to one DNS message (RFC 1035, section 4)."""
    ident, flags = struct.unpack(">HH", query[:4])
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin1").lower())
        at += query[at] + 1
    question = query[12 : at + 5]
    (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
    records = []
    try:
        found = zone.addresses(".".join(labels))
        code = NXDOMAIN if found is None else NOERROR
        if kind == A:
            records = found or []
    except (OSError, ValueError, KeyError) as error:
        print("looking up", ".".join(labels), "failed:", error, flush=True)
        code = SERVFAIL
    # QR, AA, the asker's RD, RA; the owner name of each record is a pointer to
    # the question's.
    header = struct.pack(">HHHHHH", ident, 0x8480 | (flags & 0x0100) | code, 1, len(records), 0, 0)
    return header + question + b"".join(
        struct.pack(">HHHIH", 0xC00C, A, IN, TTL, 4) + socket.inet_aton(ip) for ip in records
    )


def serve_udp(server, zone):
    while True:
        query, client = server.recvfrom(4096)
        try:
            server.sendto(answer(zone, query), client)
        except (OSError, IndexError, struct.error) as error:
            print("query from", client, "failed:", error, flush=True)


def serve_tcp(server, zone):
    while True:
        connection, client = server.accept()
        with connection:
            try:
                connection.settimeout(2)
                (length,) = struct.unpack(">H", connection.recv(2, socket.MSG_WAITALL))
                reply = answer(zone, connection.recv(length, socket.MSG_WAITALL))
                connection.sendall(struct.pack(">H", len(reply)) + reply)
            except (OSError, IndexError, struct.error) as error:
                print("query from", client, "failed:", error, flush=True)


def main(address, port, *credentials):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, int(port)))
    tcp = socket.create_server((address, int(port)))
    threads = [
        threading.Thread(target=serve, args=(server, Zone(Api(*credentials))))
        for serve, server in [(serve_udp, udp)] * 4 + [(serve_tcp, tcp)]
    ]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main(*sys.argv[1:])
