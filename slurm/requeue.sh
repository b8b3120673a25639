# Sourced by the scripts beside it: `requeue` puts their job back into the queue, to go on as the
# same job. Tried again for a while, since SLURM's controller may be on its way down or up, unless
# the job is cancelled meanwhile, which empties $out_of_time.
requeue() {
    local job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID} pause
    for pause in 5 10 20 0; do
        scontrol requeue "$job" && return
        sleep $pause
        [[ $out_of_time ]] || return 0
    done
    echo "not put back into SLURM's queue: submit it again to go on" >&2
}
