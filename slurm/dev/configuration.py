"""What SLURM, its accounting and its database are told: the text of their files."""

NODES = ["n1", "n2", "n3", "n4"]

SLURM_CONF = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a requeued job waits for as long as its old credential lasts: 120 s unless told
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/%n.pid
# the steps of a node hold this file open: so they are found
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
# memory is not counted: a test asks for what a real cluster would need
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{storage}
GresTypes=gpu
# the nodes are whatever is written here, not what this host has
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""

NODE = (
    "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port}"
    " CPUs=8 RealMemory=64000 Gres=gpu:2"
)

# SLURM sets CUDA_VISIBLE_DEVICES for device files only
GRES_CONF = """\
NodeName=n[1-4] Name=gpu File=/dev/null
NodeName=n[1-4] Name=gpu File=/dev/zero
"""

# the "password" is where munge listens: AuthInfo says that for all but this connection
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

# a database for minutes: nothing waits for a disk
MARIADB = ["--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=0"]
