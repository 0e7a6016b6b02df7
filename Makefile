# l3net: two commands do everything on a fresh Debian or Ubuntu machine, as root:
#   make demo   set up, bring up the lab, show that pods and services answer from outside, take it down
#   make test   set up, run every check and test
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the lab needs, and what only the tests need beside it.
LAB_PACKAGES := iproute2 util-linux procps nftables conntrack traceroute iputils-ping gcc libc6-dev frr bird2 gobgpd openbgpd
TEST_PACKAGES := strace tcpdump iperf3 busybox-static podman containerd runc containernetworking-plugins \
	vagrant vagrant-libvirt ruby shellcheck bgpdump pmacct tshark mandoc fish zsh mmdebstrap gpg gpg-agent \
	openssh-server openssh-client faketime chromium chromium-driver prometheus
# Of what the tests need, what no Python of theirs imports, or hardly any of.
NOT_COMPILED := site-packages/(pip|setuptools|pkg_resources|_distutils_hack|mypyc?|trio|selenium|scapy/contrib|pygments/lexers)/
KEEP ?=
# Hundreds of processes begin in a lab and in the tests: each would compile all that it imports once more.
unexport PYTHONDONTWRITEBYTECODE
# One thing after another, but for what is begun with -j below.
ifeq ($(MAKELEVEL),0)
.NOTPARALLEL:
endif
# Tests wait for daemons more than they compute: five at a time on two cores. One that fails on a busy machine is
# tried once more; the summary lists each that was (R).
PYTEST_ARGS ?= -n 5 --dist worksteal --reruns 1 -rR --durations=15

.PHONY: help demo test test-vm test-vagrant test-vagrant-arm64 check checked compiled setup setup-test packages-test plugin plugin-arm64 soak conformance bench docs
.PHONY: golden format clean wheel deb image chart vagrant-box
.PHONY: vagrant-check vagrant-break vagrant-repair vagrant-ssh vagrant-export

help:  ## show this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

demo: setup plugin  ## bring up the lab, check it, draw it, take it down (KEEP=1 leaves it up)
	@$(BIN)/l3net lab demo $(if $(KEEP),--keep)

test: setup-test plugin  ## run every check and test
	@$(MAKE) --no-print-directory -j2 checked compiled
	$(BIN)/pytest $(PYTEST_ARGS)

test-vm: setup-test plugin  ## boot a real machine (qemu, software emulation) as a router of the lab; minutes
	@tools/install-packages qemu-system-x86 e2fsprogs
	$(BIN)/pytest -m vm -s tests/vagrant/test_vm.py tests/vagrant/test_vm_package.py

LIBVIRT_PACKAGES = qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-clients dnsmasq-base rsync
test-vagrant: setup-test plugin  ## vagrant up, really run (libvirt in namespaces, software emulation); the better part of an hour
	@tools/install-packages $(LIBVIRT_PACKAGES)
	@[ -e dist/l3net-lab-libvirt.box ] || $(MAKE) --no-print-directory vagrant-box
	$(BIN)/pytest -m vm -s tests/vagrant/test_vagrant_up.py

test-vagrant-arm64: setup-test plugin  ## a node of the lab with the box for arm64, beside x86-64 ones (software emulation)
	@tools/install-packages $(LIBVIRT_PACKAGES) qemu-system-arm qemu-efi-aarch64
	@[ -e dist/l3net-lab-libvirt.box ] || $(MAKE) --no-print-directory vagrant-box
	@[ -e dist/l3net-lab-libvirt-arm64.box ] || $(MAKE) --no-print-directory vagrant-box ARCH=arm64
	$(BIN)/pytest -m vm -s tests/vagrant/test_vagrant_arm64.py

VAGRANT_LAB = --ssh-config vagrant/.ssh-config --topology vagrant/generated/topology.yaml
vagrant-check: $(VENV)/.ready vagrant-ssh  ## the checks of the lab, on the machines of vagrant/ (CHECK_ARGS=--non-disruptive)
	@$(BIN)/l3net lab check $(VAGRANT_LAB) $(CHECK_ARGS)

vagrant-break: $(VENV)/.ready vagrant-ssh  ## cut links: LINK=n1,tor1 or NODE=n3 or ROUTER=tor1
	@$(BIN)/l3net lab break $(VAGRANT_LAB) $(if $(LINK),--link $(LINK)) $(if $(NODE),--node $(NODE)) \
		$(if $(ROUTER),--router $(ROUTER))

vagrant-repair: $(VENV)/.ready vagrant-ssh  ## restore the links
	@$(BIN)/l3net lab repair $(VAGRANT_LAB)

# Vagrant writes as far as it comes: what was there stays where a machine does not run.
vagrant-ssh:  ## write vagrant/.ssh-config, for ssh to its machines (the three above do it too)
	@cd vagrant && if vagrant ssh-config >.ssh-config.new; then mv .ssh-config.new .ssh-config; else \
		rm -f .ssh-config.new; \
		echo "Every machine has to run: see 'vagrant status' in vagrant/, then 'vagrant up'" >&2; exit 1; fi

vagrant-export: $(VENV)/.ready  ## write vagrant/generated again, from TOPOLOGY=file or the default
	@$(BIN)/l3net lab export --to vagrant/generated $(TOPOLOGY)

check: setup-test  ## types, lint, layers, generated files
	@$(MAKE) --no-print-directory checked

checked:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Each worker of pytest would compile all tests for itself. One core does it while mypy has the other.
compiled:
	@$(BIN)/python -m compileall -q l3net
	@found=$$($(BIN)/pytest --collect-only 2>&1) || { echo "$$found"; exit 1; }

setup: $(VENV)/.ready
	@tools/install-packages $(LAB_PACKAGES)

setup-test: $(VENV)/bin/python
	@$(MAKE) --no-print-directory -j2 $(VENV)/.ready-test packages-test

packages-test:
	@tools/install-packages $(LAB_PACKAGES) $(TEST_PACKAGES)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { tools/install-packages python3 && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; } \
		|| { echo "l3net needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || tools/install-packages python3-venv
	$(PYTHON) -m venv $(VENV)

# The stamp tells what was installed: for the tests all of it is at once.
$(VENV)/.ready: $(VENV)/bin/python pyproject.toml
	@echo "Installing Python packages into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(if $(EXTRA),--no-compile) -e '.$(EXTRA)'
	@echo '$(EXTRA)' >$@

$(VENV)/.ready-test: EXTRA = [test]
$(VENV)/.ready-test: $(VENV)/.ready
	@grep -qF '$(EXTRA)' $< || { echo "Installing the test tools into $(VENV)"; \
		$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile -e '.$(EXTRA)'; }
	@$(BIN)/python -m compileall -q -j 0 -x '$(NOT_COMPILED)' $(VENV)/lib || true # on all cores, unlike pip
	@touch $@

plugin: setup  ## build the CNI executables into build/cni/
	@plugin/build.sh

plugin-arm64: setup  ## build them for arm64 too (installs Debian's cross compiler, about 150 MB)
	@tools/install-packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	@plugin/build.sh

wheel: plugin  ## dist/: a wheel for pip and pipx, with the CNI plugins inside (make plugin-arm64 first: for arm64 too)
	@$(BIN)/python tools/package wheel

deb: plugin  ## dist/: a Debian package for this machine's release
	@$(BIN)/python tools/package deb

image: plugin  ## dist/: an OCI image without a container engine, and its bill of materials (SPDX)
	@tools/install-packages mmdebstrap
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[package]'
	@$(BIN)/python tools/package image

ARCH ?= amd64
ifneq ($(filter vagrant-box,$(MAKECMDGOALS)),)
ifeq ($(filter amd64 arm64,$(ARCH)),)
$(error ARCH=$(ARCH): boxes are made for amd64 or arm64)
endif
endif
vagrant-box: $(if $(filter arm64,$(ARCH)),plugin-arm64,plugin)  ## dist/: boxes for vagrant/ (libvirt, VirtualBox) with all that the lab needs; ARCH=arm64: for those machines; minutes, and 3 GB of memory
	@tools/install-packages mmdebstrap e2fsprogs fdisk qemu-utils \
		$(if $(filter arm64,$(ARCH)),grub-common dosfstools mtools qemu-user-static arch-test,grub-pc-bin)
	@$(BIN)/python tools/package box --arch $(ARCH)

chart: setup  ## dist/: the chart, checked as helm lint does and packed as helm package does
	@$(BIN)/python tools/chart.py pack

soak: setup-test plugin  ## the tests that wait for long timers, and all random ones with ten times the examples; an hour or more
	L3NET_TEST_EXAMPLES=10 $(BIN)/pytest -m 'soak or (hypothesis and not vm)' --timeout 1200 -n 4

conformance: setup-test plugin  ## write docs/bgp-conformance.md: l3net and other speakers against the RFCs
	$(BIN)/python tests/interop/conformance/publish.py

bench: setup-test plugin  ## the table of docs/performance.md, beside the reference plugins and other speakers
	$(BIN)/python -m bench table

docs: setup  ## generate the documents and manifests that come from the code
	$(BIN)/python tools/make-docs
	$(BIN)/python tools/make-deploy

golden:  ## write the expected outputs of tests/golden again; read the difference before you commit it
	GOLDEN=write $(BIN)/pytest -k golden tests/cli/test_cli_golden.py tests/lab/test_lab_generators.py

format:  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was built here
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache report
