#!/usr/bin/env bash
# A Slurm cluster of one node on the loopback interface, without systemd: to try `--launcher slurm` at home, and for the tests
# marked `slurm`. Not for real work.
#
#   apt-get install -y --no-install-recommends slurm-wlm munge     (Debian 12, Ubuntu 24.04)
#   scripts/one_node_slurm.sh start [DIR]     starts munged, slurmctld and slurmd by hand; prints a line to export
#   scripts/one_node_slurm.sh stop  [DIR]     stops these three, by their pid files
#
# Run as root: slurmd starts jobs in the name of their users. Two partitions on the same node: `main`, the default, and `urgent`,
# whose jobs preempt those of `main` by putting them back into the queue.
set -euo pipefail

action=${1:?start or stop}
dir=${2:-/var/tmp/one-node-slurm}
conf=$dir/slurm.conf
host=$(hostname -s)
cpus=${CPUS:-$(nproc)}
total_mb=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024))
memory=${MEMORY:-$((total_mb - 512))}

write_conf() {
  cat > "$conf" <<CONF
ClusterName=onenode
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${SLURMCTLD_PORT:-26817}
SlurmdPort=${SLURMD_PORT:-26818}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld
SlurmdLogFile=$dir/log/slurmd
# Neither control groups nor an accounting database: this works in a container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
KillWait=10
OverTimeLimit=0
MinJobAge=600
ReturnToService=2
SlurmdTimeout=60
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=${GRACE:-20}
PartitionName=urgent Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10
CONF
}

start() {
  for program in munged slurmctld slurmd; do
    command -v "$program" > /dev/null || { echo "there is no $program; apt-get install -y --no-install-recommends slurm-wlm munge" >&2; exit 2; }
  done
  mkdir -p "$dir"/{state,spool,log,munge}
  chmod 711 "$dir" "$dir/munge"
  [ -f "$dir/munge/key" ] || { head -c 1024 /dev/urandom > "$dir/munge/key"; chmod 400 "$dir/munge/key"; }
  munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
    --log-file="$dir/log/munged" --seed-file="$dir/munge/seed" --num-threads=2
  write_conf
  export SLURM_CONF=$conf
  slurmctld -f "$conf"
  slurmd -f "$conf"
  for _ in $(seq 30); do
    [ "$(sinfo -h -o %T -p main 2> /dev/null || true)" = idle ] && break
    sleep 1
  done
  sinfo >&2
  echo "export SLURM_CONF=$conf"
}

stop() {
  for pid in "$dir/slurmd.pid" "$dir/slurmctld.pid" "$dir/munge/pid"; do
    if [ -f "$pid" ]; then kill "$(cat "$pid")" 2> /dev/null || true; fi
  done
}

case $action in
  start | stop) "$action" ;;
  *) echo "$action is neither start nor stop" >&2; exit 2 ;;
esac
