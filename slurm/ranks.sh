# Sourced by the batch scripts: run a stage as one rank a task, and queue the job again when the
# ranks have stopped on request.
#
# A rank that was told to stop has saved and ends with exit code 75. srun would take that for a
# failure and kill the ranks that are still closing files, so the task's shell turns it into a flag
# file and 0.
# shellcheck shell=bash

run_ranks() {
    local stage=$1
    shift
    local python=${TEXTMILL_PYTHON:-python}
    local flag="$SLURM_SUBMIT_DIR/.textmill-requeue-$SLURM_JOB_ID"
    rm -f "$flag"

    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
    MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
    OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
    export MASTER_ADDR MASTER_PORT OMP_NUM_THREADS

    # The trap keeps the task's shell alive when the signal for its rank reaches it too.
    # shellcheck disable=SC2016
    srun --kill-on-bad-exit=1 bash -c '
        flag=$1
        shift
        trap : USR1 TERM
        code=0
        "$@" || code=$?
        if [[ $code -eq 75 ]]; then
            touch "$flag"
            exit 0
        fi
        exit "$code"
    ' rank "$flag" "$python" -m "$stage" "$@"

    if [[ -e $flag ]]; then
        rm -f "$flag"
        echo "textmill: $stage has saved and stopped; job $SLURM_JOB_ID queues itself again"
        scontrol requeue "$SLURM_JOB_ID"
    fi
}
