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
import tarfile
from dataclasses import dataclass
from pathlib import Path

import foreign
import ociimage
from labdisk import BOOT, SIZE, UUID, run, succeeded

PACKAGES = (
    # a machine
    "systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "zstd", "ifupdown",
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
_EARLY = "etc/initramfs-tools/conf.d"
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
    f"{_EARLY}/modules": "MODULES=list\n",
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
        sed -E 's#^/(bin|sbin|lib|lib64)/#/usr/\1/#'
} | while read -r file; do [ ! -e "$file" ] || printf '%s\n' "$file"; done | LC_ALL=C sort -u >/tmp/pod
tar -C / --no-recursion --numeric-owner --owner=0 --group=0 --mtime="@$SOURCE_DATE_EPOCH" \
    -cf /usr/local/share/l3net-lab/pod.tar -T /tmp/pod
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* /var/tmp/* /tmp/*
: >/etc/machine-id; rm -f /var/lib/dbus/machine-id
for file in passwd group shadow gshadow subuid subgid; do rm -f "/etc/$file-"; done
chage -d 1 vagrant
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """What machines of one architecture have that others have not."""

    #: Its names: Debian's, Python's, and pip's of what wheels are for.
    architecture: str
    machine: str
    platforms: tuple[str, ...]
    #: What starts them.
    packages: tuple[str, ...]
    #: Drivers of a disk and its bus.
    drivers: str
    #: GRUB's settings before the kernel; where the kernel writes; what it is told besides.
    grub: str
    console: str
    told: str = ""

    @property
    def files(self) -> dict[str, str]:
        settings = f"root=UUID={UUID} ro net.ifnames=0 {self.told}{self.console}"
        return {
            "etc/initramfs-tools/modules": "".join(f"{each}\n" for each in self.drivers.split()),
            "boot/grub/grub.cfg": (
                f"set timeout=0\n{self.grub}linux /vmlinuz {settings}\ninitrd /initrd.img\nboot\n"
            ),
        }


AMD64 = Kind(
    "amd64", "x86_64", (), ("linux-image-amd64",),
    "ext4 virtio_pci virtio_blk virtio_scsi ahci sd_mod ata_piix mptspi nvme",
    "serial --unit=0 --speed=115200\nterminal_output console serial\n",
    "console=tty0 console=ttyS0,115200",
)  # fmt: skip
#: Signed pointers cost an emulated machine much, and give a lab nothing.
ARM64 = Kind(
    "arm64", "aarch64", ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64"),
    ("linux-image-arm64", "grub-efi-arm64-bin"),
    "ext4 virtio_pci virtio_mmio virtio_blk virtio_scsi sd_mod nvme",
    "", "console=tty0 console=ttyAMA0", "arm64.nopauth ",
)  # fmt: skip
KINDS = {kind.architecture: kind for kind in (AMD64, ARM64)}


def system(kind: Kind, above: Path, to: Path, epoch: str) -> None:
    """The root file system as a tar archive: Debian, its settings, and what lies in `above`."""
    suite, _ = ociimage.release()
    texts = {**FILES, **kind.files, "etc/apt/sources.list": ociimage.sources_list()}
    for name, text in texts.items():
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
        # Before there is a kernel, whose own image of start-up files would have every driver.
        f'--essential-hook=mkdir -p "$1/{_EARLY}" && cp {above}/{_EARLY}/modules "$1/{_EARLY}/"',
        f'--customize-hook=cp -a --no-preserve=ownership {above}/. "$1/"',
        f'--customize-hook=chroot "$1" sh -s <{settle}',
        '--customize-hook=rm -rf "$1/etc/apt/sources.list.d" "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        '--customize-hook=rm -f "$1/etc/resolv.conf"; : >"$1/etc/resolv.conf"',
    ]
    included = ",".join((*kind.packages, *PACKAGES))
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={included}"]
    argv.append(f"--arch={kind.architecture}")
    argv += [*ociimage.apt_options(), "--aptopt=APT::Install-Recommends false", *hooks]
    argv += [suite, str(to), *ociimage.mirrors()]
    place = above.parent / "system"
    place.mkdir()
    # In memory: thousands of files are written to be read once.
    inside = 'mount -t tmpfs -o size=6G tmpfs "$1" && export TMPDIR="$1" && shift && exec "$@"'
    apart = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", inside, "sh", str(place)]
    if kind is AMD64:
        run([*apart, *argv], env=environment)
    else:
        succeeded("mmdebstrap", foreign.run([*apart, *argv], environment))


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


#: What a machine of libvirt's "virt" type has not, or has otherwise than vagrant-libvirt takes for granted.
#: The firmware is Debian's qemu-efi-aarch64; libvirt has ACPI with it only where it may keep variables.
ARM_MACHINE = """Vagrant.configure("2") do |config|
  config.vm.provider :libvirt do |libvirt|
    libvirt.machine_arch = "aarch64"
    libvirt.machine_type = "virt"
    libvirt.loader = ENV.fetch("L3NET_EFI", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd")
    libvirt.features = []
    libvirt.graphics_type = "none"
    libvirt.inputs = []
  end
end
"""


def libvirt(kind: Kind, raw: Path, to: Path, work: Path, epoch: str) -> None:
    """The box for vagrant-libvirt."""
    image = work / "box.img"
    options = ["-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd"]
    run(["qemu-img", "convert", *options, str(raw), str(image)])
    metadata = {
        "provider": "libvirt", "format": "qcow2", "virtual_size": SIZE, "architecture": kind.architecture
    }  # fmt: skip
    files: dict[str, Path | bytes] = {"metadata.json": json.dumps(metadata).encode() + b"\n"}
    if kind is ARM64:
        files["Vagrantfile"] = ARM_MACHINE.encode()
    _box(to, {**files, "box.img": image}, epoch)


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
    run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", options, str(raw), str(image)])
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


def needed(kind: Kind) -> list[str]:
    """Programs that are not there."""
    tools = ["git", "dpkg", "unshare", "mmdebstrap", "mke2fs", "dumpe2fs", "debugfs", "sfdisk", "qemu-img"]
    tools += ["grub-mkimage", *(("mkfs.fat", "mmd", "mcopy") if kind is ARM64 else ())]
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if kind is AMD64 and not BOOT.exists():
        missing.append(str(BOOT))
    return [*missing, *(foreign.needed() if kind is ARM64 else ())]
