"""A box for Vagrant, made without a virtual machine: Debian by mmdebstrap, a disk by mke2fs, GRUB in its gap.

It has all that vagrant/provision installs, so that a lab of such boxes needs no network. There is no loop
device: the disk is put together in files. Formats: Vagrant's documents ("Boxes: box file format"),
vagrant-libvirt's (qcow2), and VirtualBox's (OVF with a stream-optimized VMDK).
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import ociimage

#: Where the disk's partition begins, in sectors of 512 octets: GRUB's core has the gap before it.
START = 2048
#: Of the disk, in GiB. What is not used takes no room on the computer.
SIZE = 10
#: Inodes before are the file system's own.
FIRST_INODE = 11
#: Of the file system; whatever is fixed makes the same disk twice.
UUID = "6c336e65-7400-4c33-8000-000000000001"
PACKAGES = (
    # a machine
    "linux-image-amd64", "systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "zstd", "ifupdown",
    "isc-dhcp-client", "openssh-server", "sudo", "rsync", "less", "vim-tiny", "procps", "iproute2", "netbase",
    # what vagrant/provision asks for
    "iputils-ping", "traceroute", "nftables", "curl",
    "ca-certificates", "diffutils", "python3", "python3-venv",
    "gcc", "libc6-dev", "conntrack", "frr", "bird2", "openbgpd", "podman", "runc", "crun", "network-manager",
    # podman wants either this or containernetworking-plugins, and apt takes now one, now the other
    "netavark",
)  # fmt: skip
#: The key that Vagrant knows, and replaces when it first sees a machine (vagrant's keys/vagrant.pub).
KEY = (
    "ssh-rsa "
    "AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8"
    "+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D"
    "8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd"
    "0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8t"
    "ehUc9c9WhQ=="
    " vagrant insecure public key\n"
)
FILES = {
    "etc/fstab": f"UUID={UUID} / ext4 errors=remount-ro 0 1\n",
    "etc/hostname": "l3net-lab\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 l3net-lab\n::1 localhost ip6-localhost ip6-loopback\n",
    "etc/network/interfaces": (
        "# The interface Vagrant reaches the machine by. The others are the lab's.\n"
        "auto lo\niface lo inet loopback\nallow-hotplug eth0\niface eth0 inet dhcp\n"
    ),
    # NetworkManager is there for whoever wants it, and has nothing.
    "etc/NetworkManager/conf.d/10-nothing.conf": "[keyfile]\nunmanaged-devices=*\n",
    "etc/initramfs-tools/conf.d/modules": "MODULES=list\n",
    "etc/initramfs-tools/modules": (
        "ext4\nvirtio_pci\nvirtio_blk\nvirtio_scsi\nahci\nsd_mod\nata_piix\nmptspi\nnvme\n"
    ),
    # Devices that a machine of the lab has and never needs; emulated ones take a second each to be set up.
    "etc/modprobe.d/box.conf": "".join(
        f"blacklist {module}\n"
        for module in (
            "aesni_intel", "crc32_pclmul", "ghash_clmulni_intel", "sha1_ssse3", "sha256_ssse3",
            "sha512_ssse3", "kvm", "kvm_amd", "kvm_intel", "ccp", "cirrus", "bochs", "qxl",
            "uhci_hcd", "ehci_hcd", "ehci_pci", "xhci_pci", "psmouse", "pcspkr", "floppy", "i2c_piix4",
            "serio_raw", "ata_generic", "joydev", "snd_hda_intel", "snd_intel8x0",
        )
    ),
    "etc/sudoers.d/vagrant": "vagrant ALL=(ALL) NOPASSWD: ALL\n",
    "etc/ssh/sshd_config.d/box.conf": (
        "UseDNS no\nGSSAPIAuthentication no\nHostKey /etc/ssh/ssh_host_ed25519_key\n"
    ),
    "etc/systemd/system/ssh.service.d/keys.conf": (
        "[Service]\n# A machine's own, made when it first starts.\nExecStartPre=\n"
        "ExecStartPre=/bin/sh -c 'test -s /etc/ssh/ssh_host_ed25519_key"
        ' || ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key\'\n'
        "ExecStartPre=/usr/sbin/sshd -t\n"
    ),
    "boot/grub/grub.cfg": (
        "set timeout=0\nserial --unit=0 --speed=115200\nterminal_output console serial\n"
        f"linux /vmlinuz root=UUID={UUID} ro net.ifnames=0 console=tty0 console=ttyS0,115200\n"
        "initrd /initrd.img\nboot\n"
    ),
}  # fmt: skip
UNITS_OFF = (
    "frr", "bird", "openbgpd",
    "bgplgd", "NetworkManager", "NetworkManager-wait-online", "podman-auto-update.service",
    "podman-auto-update.timer", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer",
    "e2scrub_reap", "fstrim.timer", "man-db.timer", "systemd-networkd",
)  # fmt: skip
#: What runs Python and nothing else, for pods: packed out of the machine's own packages.
POD = (
    "libc6", "libgcc-s1", "python3-minimal",
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib",
    "libexpat1", "zlib1g", "libbz2-1.0", "liblzma5",
    "libsqlite3-0", "libssl3", "libcrypt1", "libffi8", "libuuid1",
    "libncursesw6", "libtinfo6", "libreadline8", "libdb5.3", "libnsl2", "libtirpc3", "dash",
)  # fmt: skip
SETTLE = r"""set -eu
useradd -m -s /bin/bash -K SUB_UID_COUNT=0 -K SUB_GID_COUNT=0 vagrant
usermod -p '*' vagrant
install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh
printf '%s' "$KEY" >/home/vagrant/.ssh/authorized_keys
chown vagrant:vagrant /home/vagrant/.ssh/authorized_keys; chmod 600 /home/vagrant/.ssh/authorized_keys
chmod 440 /etc/sudoers.d/vagrant
rm -f /etc/ssh/ssh_host_*
for unit in $UNITS_OFF; do systemctl -q disable "$unit" 2>/dev/null || true; done
update-initramfs -u
mkdir -p /usr/local/share/l3net-lab
# Of merged directories the names that are no links, and these before what lies in them.
{
    printf '%s\n' /usr /usr/bin /usr/sbin /usr/lib /usr/lib64 /bin /sbin /lib /lib64
    for package in $POD; do dpkg -L "$package"; done | grep '^/.' | grep -v -e /share/ -e /__pycache__ |
        sed -E 's#^/(bin|sbin|lib|lib64)/#/usr/\1/#' | while read -r file; do
            [ ! -e "$file" ] || printf '%s\n' "$file"
        done
} | LC_ALL=C sort -u >/tmp/pod
tar -C / --no-recursion --numeric-owner --owner=0 --group=0 --mtime="@$SOURCE_DATE_EPOCH" \
    -cf /usr/local/share/l3net-lab/pod.tar -T /tmp/pod
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* /var/tmp/* /tmp/*
: >/etc/machine-id; rm -f /var/lib/dbus/machine-id
for file in passwd group shadow gshadow subuid subgid; do rm -f "/etc/$file-"; done
chage -d 1 vagrant
"""


def _run(argv: list[str], **more: object) -> None:
    done = subprocess.run(
        argv, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more
    )  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"{argv[0]} failed ({done.returncode}):\n{done.stdout[-3000:]}")


def system(above: Path, to: Path, epoch: str) -> None:
    """The root file system as a tar archive: Debian, its settings, and what lies in `above`."""
    suite, _ = ociimage.release()
    for name, text in {**FILES, "etc/apt/sources.list": ociimage.sources_list()}.items():
        (above / name).parent.mkdir(parents=True, exist_ok=True)
        (above / name).write_text(text)
    environment = {
        **os.environ,
        "SOURCE_DATE_EPOCH": epoch,
        "KEY": KEY,
        "POD": " ".join(POD),
        "UNITS_OFF": " ".join(UNITS_OFF),
    }
    settle = above.parent / "settle"
    settle.write_text(SETTLE)
    hooks = [
        f'--customize-hook=cp -a --no-preserve=ownership {above}/. "$1/"',
        f'--customize-hook=chroot "$1" sh -s <{settle}',
        '--customize-hook=rm -rf "$1/etc/apt/sources.list.d" "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        '--customize-hook=rm -f "$1/etc/resolv.conf"; : >"$1/etc/resolv.conf"',
    ]
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    argv += [*ociimage.apt_options(), "--aptopt=APT::Install-Recommends false", *hooks]
    argv += [suite, str(to), *ociimage.mirrors()]
    place = above.parent / "system"
    place.mkdir()
    # In memory: thousands of files are written to be read once.
    inside = 'mount -t tmpfs -o size=6G tmpfs "$1" && export TMPDIR="$1" && shift && exec "$@"'
    apart = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", inside, "sh", str(place)]
    _run([*apart, *argv], env=environment)


#: In a memory of its own, since mke2fs takes files in the order in which a directory tells of them.
ASSEMBLE = r"""set -eu
mount -t tmpfs -o size=6G tmpfs "$1"
tar -C "$1" --numeric-owner --xattrs --xattrs-include='*' -xpf "$2"
mke2fs -q -t ext4 -O ^metadata_csum_seed,^orphan_file,^has_journal -E "hash_seed=$4,root_owner=0:0" -U "$4" \
    -L l3net-lab -d "$1" "$3" "$5"
"""


def same_times(part: Path, epoch: str) -> None:
    """Every inode's times of change and access are the build's: mke2fs takes them from the files it reads,
    where nothing can set them. debugfs(8) keeps the checksums right."""
    done = subprocess.run(["dumpe2fs", str(part)], check=True, capture_output=True, text=True)
    told = done.stdout
    (count,) = re.findall(r"^Inode count: +(\d+)$", told, re.MULTILINE)
    free: set[int] = set()
    for ranges in re.findall(r"^  Free inodes: (.+)$", told, re.MULTILINE):
        for each in ranges.split(", "):
            first, _, last = each.partition("-")
            free.update(range(int(first), int(last or first) + 1))
    used = (number for number in range(FIRST_INODE, int(count) + 1) if number not in free)
    script = part.with_suffix(".times")
    fields = [(each, field) for each in used for field in ("ctime", "atime")]
    script.write_text("".join(f"set_inode_field <{each}> {field} @{epoch}\n" for each, field in fields))
    environment = {**os.environ, "E2FSPROGS_FAKE_TIME": epoch}  # the disk's own last change
    _run(["debugfs", "-w", "-f", str(script), str(part)], env=environment)
    script.unlink()


def disk(archive: Path, to: Path, work: Path, epoch: str) -> None:
    """A raw disk that a BIOS starts: a partition with the archive's files, and GRUB."""
    place, part = work / "files", work / "part.ext4"
    place.mkdir()
    size = (SIZE << 21) - START  # sectors
    environment = {**os.environ, "E2FSPROGS_FAKE_TIME": epoch, "SOURCE_DATE_EPOCH": epoch}
    argv = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", ASSEMBLE, "sh"]
    _run([*argv, str(place), str(archive), str(part), UUID, f"{size // 2}k"], env=environment)
    same_times(part, epoch)
    core = work / "core.img"
    modules = "biosdisk part_msdos ext2 linux normal configfile echo test serial terminal search boot minicmd"
    _run(["grub-mkimage", "-O", "i386-pc", "-o", str(core), "-p", "(hd0,msdos1)/boot/grub", *modules.split()])
    if core.stat().st_size > (START - 1) * 512:
        raise SystemExit("GRUB's core does not fit before the partition")
    with to.open("wb") as made:
        made.truncate(SIZE << 30)
    table = f"label: dos\nlabel-id: 0x6c336e65\nstart={START}, size={size}, type=83, bootable\n"
    _run(["sfdisk", "-q", str(to)], input=table)
    with to.open("r+b") as made:
        made.write(Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()[:440])
        made.seek(512)
        made.write(core.read_bytes())
    # Holes stay holes.
    _run(["dd", f"if={part}", f"of={to}", "bs=1M", f"seek={START // 2048}", "conv=sparse,notrunc"])
    part.unlink()


def _box(to: Path, files: dict[str, Path | bytes], epoch: str) -> None:
    with tarfile.open(to, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mtime, entry.mode = int(epoch), 0o644
            if isinstance(content, bytes):
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            else:
                entry.size = content.stat().st_size
                with content.open("rb") as file:
                    archive.addfile(entry, file)


def libvirt(raw: Path, to: Path, work: Path, epoch: str) -> None:
    """The box for vagrant-libvirt."""
    image = work / "box.img"
    options = ["-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd"]
    _run(["qemu-img", "convert", *options, str(raw), str(image)])
    metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": SIZE}
    _box(to, {"metadata.json": json.dumps(metadata).encode() + b"\n", "box.img": image}, epoch)


def same_number(image: Path) -> None:
    """Fix the number of a VMDK's content (CID in its descriptor, behind the first sector): qemu-img draws one
    each time, of up to eight digits."""
    size = 20 * 512
    with image.open("r+b") as file:
        file.seek(512)
        text, _, _ = file.read(size).partition(b"\0")
        text = re.sub(rb"(?m)^CID=[0-9a-f]{1,8}$", b"CID=6c336e65", text)
        file.seek(512)
        file.write(text.ljust(size, b"\0"))


def virtualbox(raw: Path, to: Path, work: Path, epoch: str) -> None:
    """The box for VirtualBox. Its own tools have never read it here."""
    image = work / "box.vmdk"
    options = "subformat=streamOptimized,adapter_type=lsilogic"
    _run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", options, str(raw), str(image)])
    same_number(image)
    text = (Path(__file__).parent / "labbox.ovf").read_text()
    text = text.replace("@CAPACITY@", str(SIZE << 30)).replace("@SIZE@", str(image.stat().st_size))
    files: dict[str, Path | bytes] = {
        "metadata.json": b'{"provider": "virtualbox"}\n',
        "Vagrantfile": b'Vagrant.configure("2") { |config| config.vm.base_mac = "026C330000FF" }\n',
        "box.ovf": text.encode(),
        "box.vmdk": image,
    }
    _box(to, files, epoch)


def needed() -> list[str]:
    """Programs that are not there."""
    tools = ("mmdebstrap", "mke2fs", "dumpe2fs", "debugfs", "sfdisk", "qemu-img", "grub-mkimage", "unshare")
    return [tool for tool in tools if shutil.which(tool) is None]
