# shellcheck shell=sh
# A router: FRR, BIRD or OpenBGPD with the configuration the namespace lab has. Read by machine.sh. (VyOS: see vyos.sh.)

# A box may bring more than one: the checks ask the one that runs.
put 0644 "$LAB/router" <<EOT
$ROUTER
EOT
CHANGED=
case $ROUTER in
    frr)
        packages frr
        put 0640 /etc/frr/frr.conf <"$GENERATED/$HOST/frr.conf"
        put 0640 /etc/frr/vtysh.conf <<EOT
service integrated-vtysh-config
EOT
        put 0640 /etc/frr/daemons <<EOT
bgpd=yes
bfdd=yes
vtysh_enable=yes
zebra_options="  -A 127.0.0.1 -s 90000000"
bgpd_options="   -A 127.0.0.1"
bfdd_options="   -A 127.0.0.1"
staticd_options="-A 127.0.0.1"
# A slow machine takes longer than 20 s to load all of it, and would be cut short before its configuration.
watchfrr_options="-T 300 -t 180"
EOT
        for file in frr.conf daemons; do
            [ "$(stat -c %U "/etc/frr/$file")" = frr ] || chown frr:frr "/etc/frr/$file"
        done
        [ "$(stat -c %G /etc/frr/vtysh.conf)" = frrvty ] || chown frr:frrvty /etc/frr/vtysh.conf
        run_unit frr.service
        ;;
    bird)
        packages bird2
        put 0640 /etc/bird/bird.conf <"$GENERATED/$HOST/bird.conf"
        [ "$(stat -c %U /etc/bird/bird.conf)" = bird ] || chown bird:bird /etc/bird/bird.conf
        run_unit bird.service
        ;;
    openbgpd)
        packages openbgpd
        put 0600 /etc/bgpd.conf <"$GENERATED/$HOST/bgpd.conf"
        run_unit openbgpd.service
        # Debian's keeps no kernel routes.
        CHANGED=
        put 0644 "$LIB/rib_follower.py" <"$TREE/l3net/lab/rib_follower.py"
        put 0644 /etc/systemd/system/l3net-lab-rib.service <<EOT
[Unit]
Description=Routes of OpenBGPD into the kernel
After=openbgpd.service
[Service]
ExecStart=python3 -ISE $LIB/rib_follower.py openbgpd
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
EOT
        run_unit l3net-lab-rib.service
        ;;
    *) fail "no way to make a router of kind $ROUTER: frr, bird or openbgpd (vyos is a box of its own)" ;;
esac
