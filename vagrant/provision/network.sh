# shellcheck shell=sh
# Names, addresses, routes and sysctls of a machine, and what the checks need on every one. Read by machine.sh.

packages iproute2 iputils-ping traceroute procps nftables curl ca-certificates diffutils python3

put 0644 "$LAB/interfaces" <"$GENERATED/$HOST/interfaces"
put 0644 "$LAB/network.ip" <"$GENERATED/$HOST/network.ip"
put 0644 "$LAB/sysctl.conf" <"$GENERATED/$HOST/sysctl.conf"
put 0755 /usr/local/sbin/l3net-lab <"$TREE/vagrant/machine/l3net-lab"
put 0644 "$LIB/pod_server.py" <"$TREE/l3net/lab/pod_server.py"
put 0644 "$LAB/host" <<EOT
$HOST
EOT

# Interfaces get the names of the topology by their MAC addresses, at boot by udev and now by `l3net-lab network`.
while read -r mac name; do
    put 0644 "/etc/systemd/network/70-l3net-lab-$name.link" <<EOT
[Match]
MACAddress=$mac
[Link]
Name=$name
EOT
done <"$GENERATED/$HOST/interfaces"

wanted=$(mktemp)
{
    sed '/^# l3net-lab begin$/,/^# l3net-lab end$/d' /etc/hosts
    echo '# l3net-lab begin'
    cat "$GENERATED/hosts"
    echo '# l3net-lab end'
} >"$wanted"
# Written in place: /etc/hosts may be a mount.
cmp -s "$wanted" /etc/hosts || cat "$wanted" >/etc/hosts
rm -f "$wanted"

# Interfaces come when udev has loaded their drivers: on a slow machine half a minute after the first units.
put 0644 /etc/systemd/system/l3net-lab-network.service <<EOT
[Unit]
Description=Addresses and routes of the l3net lab
Wants=network.target systemd-udev-settle.service
After=network.target systemd-udev-settle.service
Before=frr.service bird.service openbgpd.service l3net-speaker.service l3net-agent.service l3net-bfd.service kubelet.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/l3net-lab network
[Install]
WantedBy=multi-user.target
EOT
run_unit l3net-lab-network.service
# Vagrant starts these for all interfaces as it sets the name; the lab's are not ifupdown's.
! have_systemd || systemctl reset-failed 'ifup@eth*.service' 2>/dev/null || true
have_systemd || /usr/local/sbin/l3net-lab network
