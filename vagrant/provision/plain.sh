# shellcheck shell=sh
# A node without Kubernetes: speaker, agent and BFD as units, a directory of manifests, pods in podman. Read by machine.sh
# after l3net.sh, whose CHANGED counts: new code restarts what runs it.

# The same image as in a cluster, pinned by version, or what a box of ours brings; L3NET_POD_IMAGE names another.
brought=/usr/local/share/l3net-lab/pod.tar
if [ -e "$brought" ]; then
    image=${L3NET_POD_IMAGE:-localhost/l3net-lab-pod:latest}
else
    image=${L3NET_POD_IMAGE:-docker.io/library/python:3.11-slim-bookworm}
fi

packages podman runc
# Its own network needs plugins that are not here.
rm -f /etc/cni/net.d/87-podman-bridge.conflist
new_code=$CHANGED
put 0644 "$LAB/mode" <<EOT
plain
EOT
for file in "$GENERATED"/plain/*.yaml; do
    put 0600 "/etc/l3net/manifests/${file##*/}" <"$file"
done
for file in /etc/l3net/manifests/*.yaml; do
    [ -e "$GENERATED/plain/${file##*/}" ] || rm -f "$file"
done

# The units of the package, for l3net as it is here.
CHANGED=$new_code
put 0644 /etc/default/l3net <<EOT
AGENT_OPTIONS="--datastore dir:/etc/l3net/manifests --node-name $HOST"
EOT
new_code=$CHANGED
rendered=$(mktemp)
for process in speaker agent bfd leave; do
    # The agent follows its manifests by itself, so that these restart nothing. Nor is a node drained for new code.
    CHANGED=$new_code
    [ $process != leave ] || CHANGED=
    sed 's|/usr/bin/l3net|/opt/l3net/bin/l3net|' "$TREE/deploy/systemd/l3net-$process.service" >"$rendered"
    put 0644 "/etc/systemd/system/l3net-$process.service" <"$rendered"
    if [ $process = leave ] && [ -n "$CHANGED" ] && have_systemd; then
        systemctl daemon-reload
        CHANGED=
    fi
    run_unit "l3net-$process.service"
done
rm -f "$rendered"
for manager in NetworkManager:NetworkManager/conf.d networkd:systemd/networkd.conf.d; do
    file=$(echo "${manager%%:*}" | tr '[:upper:]' '[:lower:]')
    put 0644 "/etc/${manager#*:}/l3net.conf" <"$TREE/deploy/debian/$file.conf"
done

/opt/l3net/bin/l3net cni install --no-conf --no-standalone --plugin-dir /opt/l3net/cni --bin-dir /opt/cni/bin >/dev/null
CHANGED=
put 0644 /etc/cni/net.d/05-l3net.conflist <<EOT
{
  "cniVersion": "1.0.0",
  "name": "l3net",
  "plugins": [{"type": "l3net-cni", "capabilities": {"ips": true, "mac": true, "portMappings": true}}]
}
EOT
put 0644 /etc/containers/containers.conf.d/50-l3net.conf <<EOT
[engine]
runtime = "runc"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
EOT
if [ "$image" = localhost/l3net-lab-pod:latest ] && ! podman image exists "$image"; then
    podman import -q "$brought" "$image" >/dev/null
fi
put 0644 "$LAB/pods" <"$GENERATED/$HOST/pods"
put 0644 "$LAB/image" <<EOT
$image
EOT
put 0644 /etc/systemd/system/l3net-pod@.service <<EOT
[Unit]
Description=Pod %i of the l3net lab
After=l3net-agent.service
# Stopped after it: a host that goes down sends the routers elsewhere first.
Before=l3net-leave.service
[Service]
ExecStart=/usr/local/sbin/l3net-lab pod-run %i
ExecStop=-/usr/bin/podman stop --time 0 %i
ExecStopPost=-/usr/bin/podman rm --force --time 0 %i
Restart=always
RestartSec=2
TimeoutStartSec=infinity
[Install]
WantedBy=multi-user.target
EOT
pods_changed=$CHANGED
while read -r pod _; do
    CHANGED=$pods_changed
    run_unit "l3net-pod@$pod.service"
done <"$GENERATED/$HOST/pods"
