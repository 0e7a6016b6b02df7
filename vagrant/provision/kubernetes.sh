# shellcheck shell=sh
# A node of a kubeadm cluster: containerd, kubeadm, l3net's image out of the working tree, and on the first node
# l3net's manifest and the lab's resources. Read by machine.sh after l3net.sh.

# The minor version, pinned; and where its packages are (a mirror, say).
version=${L3NET_K8S_VERSION:-1.34}
repository=${L3NET_K8S_REPOSITORY:-https://pkgs.k8s.io/core:/stable:/v$version/deb/}
keyring=/etc/apt/keyrings/kubernetes.asc

put 0644 "$LAB/mode" <<EOT
kubernetes
EOT
put 0644 /etc/modules-load.d/l3net-lab.conf <<EOT
overlay
EOT
# kubeadm looks for it before there is an agent that sets it.
put 0644 /etc/sysctl.d/90-l3net-lab.conf <<EOT
net.ipv4.ip_forward = 1
net.ipv6.conf.all.forwarding = 1
EOT
sysctl -q -p /etc/sysctl.d/90-l3net-lab.conf
if grep -q '^[^#].*[[:space:]]swap[[:space:]]' /etc/fstab 2>/dev/null; then
    sed -i 's/^\([^#].*[[:space:]]swap[[:space:]].*\)$/# \1/' /etc/fstab
    swapoff -a
fi

packages containerd runc podman buildah
# Podman, which builds the image, brings a network of its own: containerd would take it until l3net's is there.
rm -f /etc/cni/net.d/87-podman-bridge.conflist
put 0644 /etc/containers/containers.conf.d/50-l3net.conf <<EOT
[engine]
runtime = "runc"
EOT
CHANGED=
put 0644 /etc/containerd/config.toml <<EOT
version = 2
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
EOT
run_unit containerd.service

if [ ! -s "$keyring" ]; then
    mkdir -p "${keyring%/*}"
    curl -fsSL -o "$keyring.new" "${repository}Release.key" || fail "no key from ${repository}Release.key"
    mv "$keyring.new" "$keyring"
fi
CHANGED=
put 0644 /etc/apt/sources.list.d/kubernetes.list <<EOT
deb [signed-by=$keyring] $repository /
EOT
[ -z "$CHANGED" ] || apt-get update -q >/dev/null
packages kubelet kubeadm kubectl cri-tools
[ "$(apt-mark showhold kubelet kubeadm kubectl | wc -l)" -eq 3 ] || apt-mark hold kubelet kubeadm kubectl >/dev/null
put 0644 /etc/crictl.yaml <<EOT
runtime-endpoint: unix:///run/containerd/containerd.sock
EOT

# The image bears the tree's hash, so that new code is a new image, which the cluster rolls out.
tag=localhost/l3net:$hash
if [ "$(cat "$LAB/image-in-containerd" 2>/dev/null)" != "$tag" ]; then
    say "building the image $tag"
    podman build -q --network host -t "$tag" -f "$TREE/deploy/Dockerfile" \
        --build-arg BASE=docker.io/library/python:3.11-slim-bookworm \
        --build-arg BUILDER=docker.io/library/debian:bookworm-slim "$TREE" >/dev/null
    podman save "$tag" | ctr --namespace k8s.io images import - >/dev/null
    put 0644 "$LAB/image-in-containerd" <<EOT
$tag
EOT
fi

settings=$GENERATED/$HOST/kubeadm.yaml
verb='join'
! grep -q '^kind: InitConfiguration' "$settings" || verb='init'
if [ ! -e /etc/kubernetes/kubelet.conf ]; then
    token=$TREE/vagrant/.token
    [ -s "$token" ] || fail "$token is missing: vagrant makes it; by hand: [a-z0-9]{6}.[a-z0-9]{16}"
    # In a file, which only root reads: never in an argument.
    configuration=$(mktemp)
    # mktemp's file is 0600; `read` and `printf` are the shell's own.
    read -r secret <"$token"
    while IFS= read -r line; do
        case $line in
            *"'@TOKEN@'"*) printf '%s%s%s\n' "${line%%"'@TOKEN@'"*}" "$secret" "${line#*"'@TOKEN@'"}" ;;
            *) printf '%s\n' "$line" ;;
        esac
    done <"$settings" >"$configuration"
    if [ "$verb" = join ]; then
        server=$(sed -n 's/^ *apiServerEndpoint: //p' "$settings" | tr -d "'\"")
        say "waiting for the API server at $server"
        for _ in $(seq 450); do
            ! curl -gkfs -o /dev/null --max-time 2 "https://$server/healthz" || break
            sleep 2
        done
    fi
    say "kubeadm $verb"
    kubeadm "$verb" --config "$configuration" >"/var/log/kubeadm-$verb.log" 2>&1 || {
        rm -f "$configuration"
        tail -n 20 "/var/log/kubeadm-$verb.log" >&2
        fail "kubeadm $verb failed; all of it is in /var/log/kubeadm-$verb.log"
    }
    rm -f "$configuration"
fi
if [ "$verb" = init ]; then
    export KUBECONFIG=/etc/kubernetes/admin.conf
    put 0600 /root/.kube/config <"$KUBECONFIG"
    server=$(sed -n 's/^ *advertiseAddress: //p' "$settings" | tr -d "'\"")
    /opt/l3net/bin/python "$TREE/vagrant/provision/manifest.py" "$tag" "$server" <"$TREE/deploy/l3net.yaml" \
        | kubectl apply --server-side --force-conflicts -f - >/dev/null
    kubectl create configmap lab-pod-server --from-file="$LIB/pod_server.py" --dry-run=client -o yaml \
        | kubectl apply --server-side --force-conflicts -f - >/dev/null
    for file in "$GENERATED"/kubernetes/*.yaml; do
        put 0644 "$LIB/kubernetes/${file##*/}" <"$file"
        kubectl apply --server-side --force-conflicts -f "$file" >/dev/null
    done
    say "applied l3net's manifest with $tag, and the lab's resources"
fi
