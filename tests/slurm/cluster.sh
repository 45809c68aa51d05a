#!/usr/bin/env bash
# A SLURM of one machine with four cores, real or not, for the tests: `cluster.sh start`, `cluster.sh stop`. Wants root, on Debian or Ubuntu.
# All of its state lies in SLURM_HOME; `export SLURM_CONF=$SLURM_HOME/slurm.conf` makes its commands find it.
set -euo pipefail

home=${SLURM_HOME:-/tmp/lightning_sae_slurm}

install() {
    command -v slurmctld >/dev/null && command -v munged >/dev/null && return
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurm-wlm munge >/dev/null
}

configure() {
    mkdir -p "$home/state" "$home/spool"
    cat >"$home/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=20
SlurmdParameters=config_overrides
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/slurmd.log
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
END
}

start() {
    install
    configure
    export SLURM_CONF=$home/slurm.conf
    command install -d -o munge -g munge /run/munge
    if ! munge --no-input >/dev/null 2>&1; then
        runuser -u munge -- munged
        touch "$home/munged"
    fi
    slurmctld -c
    slurmd -c
    for _ in $(seq 60); do
        sinfo --noheader --states=idle 2>/dev/null | grep -q . && return
        sleep 1
    done
    tail "$home"/slurm*.log >&2
    return 1
}

stop() {
    for daemon in slurmd slurmctld; do
        if [ -f "$home/$daemon.pid" ]; then kill "$(cat "$home/$daemon.pid")" || true; fi
    done
    if [ -f "$home/munged" ]; then
        kill "$(cat /run/munge/munged.pid)" || true
        rm "$home/munged"
    fi
}

"$1"
