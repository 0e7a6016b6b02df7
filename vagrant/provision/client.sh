# shellcheck shell=sh
# A machine outside the cluster. It answers like a pod, since pods ask it whom it sees. Read by machine.sh.

CHANGED=
put 0644 /etc/systemd/system/l3net-lab-server.service <<EOT
[Unit]
Description=Says who asks, for the checks of the l3net lab
After=l3net-lab-network.service
[Service]
ExecStart=/usr/bin/python3 -ISE $LIB/pod_server.py $HOST $HOST 8080
DynamicUser=yes
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
EOT
run_unit l3net-lab-server.service
