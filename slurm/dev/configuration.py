"""Configuration files of SLURM, its accounting and its database."""

NODES = ["n1", "n2", "n3", "n4"]

SLURM_CONF = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a requeued job waits until its old credential expires, by default 120 s
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/%n.pid
# job steps keep the log file of their node open, which identifies them
SlurmdLogFile={folder}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SlurmdTimeout=30
SlurmctldTimeout=30
KillWait=15
MinJobAge=300
SelectType=select/cons_tres
# do not count memory: tests request as much as on a real cluster
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{storage}
GresTypes=gpu
# use the nodes' resources as configured here, not those of this host
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""

NODE = (
    "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port}"
    " CPUs=8 RealMemory=64000 Gres=gpu:2"
)

# SLURM sets CUDA_VISIBLE_DEVICES only for GPUs with a device file
GRES_CONF = """\
NodeName=n[1-4] Name=gpu File=/dev/null
NodeName=n[1-4] Name=gpu File=/dev/zero
"""

# the "password" is munge's socket: AuthInfo does not apply to this connection
STORAGE = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge/socket
"""

SLURMDBD_CONF = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
PidFile={folder}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
"""

# the database lives for minutes, so it need not be durable
MARIADB = ["--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=0"]
