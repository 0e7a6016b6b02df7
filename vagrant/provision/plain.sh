# shellcheck shell=sh
# A node without Kubernetes: speaker, agent and BFD as units, a directory of manifests, pods in podman. Read by machine.sh
# after l3net.sh, whose CHANGED counts: new code restarts what runs it.

# The same image as in a cluster, pinned by version; L3NET_POD_IMAGE names another.
image=${L3NET_POD_IMAGE:-docker.io/library/python:3.11-slim-bookworm}

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

for process in speaker agent bfd; do
    case $process in
        agent) more="--datastore dir:/etc/l3net/manifests --node-name $HOST" after='After=l3net-speaker.service' ;;
        *) more='' after='After=l3net-lab-network.service' ;;
    esac
    # The agent follows its manifests by itself, so that these restart nothing.
    CHANGED=$new_code
    put 0644 "/etc/systemd/system/l3net-$process.service" <<EOT
[Unit]
Description=l3net $process
$after
[Service]
ExecStart=/opt/l3net/bin/l3net $process $more
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
EOT
    run_unit "l3net-$process.service"
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
put 0644 "$LAB/pods" <"$GENERATED/$HOST/pods"
put 0644 "$LAB/image" <<EOT
$image
EOT
put 0644 /etc/systemd/system/l3net-pod@.service <<EOT
[Unit]
Description=Pod %i of the l3net lab
After=l3net-agent.service
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
