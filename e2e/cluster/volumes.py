#!/usr/bin/env python3
"""The provisioner of the cluster's default StorageClass: one folder of this
machine for each claim.

    volumes.py FOLDER NODE API-SERVER CA CERTIFICATE KEY

The volumes are of type `local`, not `hostPath`: with those the kubelet honours
fsGroup, and like a cloud's disk an unprepared volume belongs to root (0755).
The size that a claim asks for is not enforced.
"""
import os
import shutil
import sys
import time

from api import Api

PROVISIONER = "landfast.test/local"
MADE_BY = "pv.kubernetes.io/provisioned-by"
CLAIMS, CLASSES, VOLUMES = (
    "/api/v1/persistentvolumeclaims",
    "/apis/storage.k8s.io/v1/storageclasses",
    "/api/v1/persistentvolumes",
)


def wanted(claim, classes, volumes):
    """Whether `claim` waits for a volume of ours."""
    meta, spec = claim["metadata"], claim["spec"]
    of = classes.get(spec.get("storageClassName"))
    if not of or spec.get("volumeName") or name_for(claim) in volumes or "deletionTimestamp" in meta:
        return False
    scheduled = "volume.kubernetes.io/selected-node" in meta.get("annotations", {})
    return scheduled or of.get("volumeBindingMode") != "WaitForFirstConsumer"


def name_for(claim):
    return "pvc-" + claim["metadata"]["uid"]


def volume_for(claim, of, folder, node):
    meta, spec = claim["metadata"], claim["spec"]
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name_for(claim), "annotations": {MADE_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": of.get("reclaimPolicy", "Delete"),
            "storageClassName": spec["storageClassName"],
            "local": {"path": folder},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


def released(volume):
    return (
        volume["metadata"].get("annotations", {}).get(MADE_BY) == PROVISIONER
        and volume["status"].get("phase") == "Released"
        and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    )


def step(api, base, node):
    classes = {c["metadata"]["name"]: c for c in api.items(CLASSES) if c["provisioner"] == PROVISIONER}
    volumes = {v["metadata"]["name"]: v for v in api.items(VOLUMES)}
    for claim in api.items(CLAIMS):
        if wanted(claim, classes, volumes):
            folder = os.path.join(base, name_for(claim))
            os.makedirs(folder, mode=0o755, exist_ok=True)
            of = classes[claim["spec"]["storageClassName"]]
            api.call("POST", VOLUMES, volume_for(claim, of, folder, node))
    for name, volume in volumes.items():
        if released(volume):
            api.call("DELETE", f"{VOLUMES}/{name}")
            shutil.rmtree(os.path.join(base, name), ignore_errors=True)


def main(base, node, *credentials):
    os.makedirs(base, exist_ok=True)
    api = Api(*credentials)
    while True:
        try:
            step(api, base, node)
        except (OSError, KeyError, ValueError) as error:
            print(error, flush=True)
        time.sleep(0.5)


if __name__ == "__main__":
    main(*sys.argv[1:])
