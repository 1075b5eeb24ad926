# Settings of the test cluster, for its scripts and for the tests. To be
# sourced by bash; changes nothing but variables.
#
# For tests: KUBECONFIG, PATH (kubectl, helm and ctr of the right versions),
# E2E_CLUSTER_DIR, E2E_CERTS_D, E2E_NODE_IP, E2E_CONTAINERD, E2E_AUDIT_LOG.
# shellcheck disable=SC2034 # used by the scripts that source this

LANDFAST_CACHE=${LANDFAST_CACHE:-$HOME/.cache/landfast}
E2E_HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
E2E_BIN=$("$E2E_HERE/../tools/install" --print-bin)
E2E_CLUSTER_DIR=${LANDFAST_CLUSTER_DIR:-$LANDFAST_CACHE/cluster}
# All state of a running cluster. `down` deletes this folder.
E2E_RUN=$E2E_CLUSTER_DIR/run
# What containerd knows of registries, read at every pull: for a host (or
# host:port) whose CA is not a public one, the file <host>/ca.crt. A hosts.toml
# works too, but containerd 1.6 then asks the host once more without that CA when
# something is not there, and reports an unknown authority instead of "not found".
E2E_CERTS_D=$E2E_RUN/etc/certs.d
E2E_CONTAINERD=$E2E_RUN/containerd/containerd.sock
# One line of JSON for each write of a service account.
E2E_AUDIT_LOG=$E2E_RUN/log/audit.log

E2E_NODE=node1
# The node's address sits on a bridge of its own, not on the machine's network
# card: nothing outside this machine can reach the cluster.
E2E_NODE_IP=10.250.0.1
E2E_NODE_BRIDGE=lfnode0
E2E_POD_BRIDGE=lfpods0
E2E_POD_CIDR=10.244.0.0/24
E2E_CLUSTER_CIDR=10.244.0.0/16
E2E_SERVICE_CIDR=10.96.0.0/16
E2E_API_SERVICE_IP=10.96.0.1
E2E_DNS_IP=10.96.0.10
E2E_API=https://$E2E_NODE_IP:6443

KUBECONFIG=$E2E_RUN/admin.kubeconfig
case :$PATH: in
  *":$E2E_BIN:"*) ;;
  *) PATH=$E2E_BIN:$PATH:/usr/sbin:/sbin ;; # iptables and runc live in sbin
esac
export LANDFAST_CACHE KUBECONFIG PATH E2E_BIN E2E_CLUSTER_DIR E2E_CERTS_D E2E_CONTAINERD E2E_AUDIT_LOG E2E_NODE E2E_NODE_IP
