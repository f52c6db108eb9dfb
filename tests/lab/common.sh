# What the scripts of the lab share. LAB tells the two kinds of machine apart, here and nowhere else twice:
#   offline  (default) no registry of images can be reached: an engine of the lab's own, images from source and from Debian
#   kind     an ordinary machine: the user's docker, kind, kubectl and helm, and images that are pulled
# shellcheck shell=bash
set -euo pipefail

lab=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$lab/../.." && pwd)
state=${LAB_STATE:-/var/tmp/streamsession-lab}
LAB=${LAB:-offline}

cluster=streamsession
node=$cluster-control-plane

# Kubernetes 1.35 is the last one on containerd 1 (Debian's) and on cgroup v1. What tests/lab/programs/go.mod builds is
# versioned there; these are the others, and the tags that upstream's manifests ask for.
kubernetes=v1.35.4
etcd_tag=3.6.6-0
pause_tags=(3.10 3.10.1)
coredns=v1.13.1
contour=v1.33.8
envoy=1.36.4
kubeconform=v0.8.0
minio=v0.0.0-20260212201848-7aac2a2c5b7c
versitygw=v1.8.0

node_image=streamsession/kind-node:$kubernetes
minio_image=lab/minio:2026-02-12
coturn_image=lab/coturn:4.6
versitygw_image=lab/versitygw:1.8.0

# Names that mean the node for whoever runs outside.
names=(cams.example.com media.example.com turn.example.com store.example.com front-door.example.com)
# The link between the lab and the outside, and what Docker may use.
link=10.90.0 networks=10.89.0.0/16 bridge=10.88.0.1/16

export PATH=$state/bin:$PATH:/usr/sbin:/sbin KUBECONFIG=$state/kubeconfig
if [[ $LAB == offline ]]; then
  # Debian's engine has the builder of old only.
  export DOCKER_HOST=unix://$state/docker.sock DOCKER_BUILDKIT=0 KIND_EXPERIMENTAL_PROVIDER=docker
fi

die() {
  echo "tests/lab/$(basename "$0"): $*" >&2
  exit 1
}

# The comment at the head of a script is its usage.
usage() {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0" >&2
  exit 2
}

case $LAB in offline | kind) ;; *) die "LAB=$LAB: it is offline or kind" ;; esac

say() {
  printf '%s %s\n' "$(date +%T)" "$*" >&2
}

# inside COMMAND…: where the cluster is reached.
inside() {
  # nsenter, since `ip netns exec` mounts /sys anew and hides the cgroups.
  if [[ $LAB == offline ]]; then nsenter --net=/run/netns/lab "$@"; else "$@"; fi
}

node_address() {
  docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$node"
}

# load IMAGE…: into the node's store, those that it has not. The node notes which image a name means there.
load() {
  local image id new=() notes=()
  for image; do
    id=$(docker image inspect --format '{{.Id}}' "$image")
    if docker exec "$node" grep -qsx "$id $image" /kind/loaded; then continue; fi
    new+=("$image") notes+=("$id $image")
  done
  [[ ${#new[@]} -gt 0 ]] || return 0
  say "loading ${new[*]}"
  docker save "${new[@]}" | docker exec -i "$node" ctr --namespace k8s.io images import --digests --snapshotter overlayfs - >/dev/null
  printf '%s\n' "${notes[@]}" | docker exec -i "$node" sh -c '
    touch /kind/loaded
    while read -r id image; do
      sed -i "\\| $image\$|d" /kind/loaded
      echo "$id $image" >>/kind/loaded
    done'
}
