# What the batch scripts of Textmill share; they source it. Two functions run a stage, in the job:
#
#     run_ranks STAGE [OPTION OF SRUN ...] -- COMMAND ...    a process for each task of the job
#     run_alone STAGE [OPTION OF SRUN ...] -- COMMAND ...    one process
#
# Both end the batch script with the stage's exit code, or queue the job again: after a stop on
# request (exit code 75, shortly before the time limit) at most TEXTMILL_REQUEUES times, starts by
# SLURM itself included, and after a lost rank (exit code 5, or a process ended by a signal) at most
# TEXTMILL_RESTARTS times. What has to be known beyond one start of a job lies in the folder
# TEXTMILL_NOTES, which all its nodes share. Ranks meet at the first node of the job, by its name or
# by TEXTMILL_MASTER_ADDR.
# shellcheck shell=bash

run_ranks() {
    local stage=$1 options=() code=0 notes
    shift
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    prepare_job
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
    MASTER_ADDR=${TEXTMILL_MASTER_ADDR:-$MASTER_ADDR}
    # Below the ports that the kernel gives to any connection.
    MASTER_PORT=$((20000 + SLURM_JOB_ID % 12000))
    LOCAL_WORLD_SIZE=${SLURM_NTASKS_PER_NODE:-1}
    OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
    export MASTER_ADDR MASTER_PORT LOCAL_WORLD_SIZE OMP_NUM_THREADS
    [[ -e /dev/nvidiactl ]] || export DS_ACCELERATOR=cpu

    # A rank that was told to stop has saved and ends with 75. srun would take that for a failure
    # and kill the ranks that are still closing files: a note and 0 say it instead. Of real failures
    # the first is noted: srun ends the other ranks, and what they end with says nothing. The trap
    # keeps this shell alive when the signal for its rank reaches it too.
    # shellcheck disable=SC2016
    srun --kill-on-bad-exit=1 "${options[@]}" bash -c '
        notes=$1
        shift
        trap : USR1 USR2 TERM
        code=0
        "$@" || code=$?
        if [[ $code -eq 75 ]]; then
            touch "$notes.stopped"
            exit 0
        fi
        if [[ $code -ne 0 ]]; then
            (set -o noclobber && echo "$code" >"$notes.failed") 2>/dev/null || true
        fi
        exit "$code"
    ' rank "$notes" "$@" || code=$?

    if [[ -s $notes.failed ]]; then
        code=$(<"$notes.failed")
    elif [[ $code -eq 0 && -e $notes.stopped ]]; then
        code=75
    fi
    settle "$stage" "$code"
}

run_alone() {
    local stage=$1 options=() code=0 is_told=0 notes
    shift
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    prepare_job
    trap is_told=1 USR1
    # In the background, because a shell runs a trap only when nothing is in the foreground.
    srun --kill-on-bad-exit=1 --ntasks=1 --nodes=1 "${options[@]}" "$@" &
    wait "$!" || code=$?
    if [[ $is_told -eq 1 ]]; then
        code=75 # what is done is journaled: it is ended by the job that queues itself again
    fi
    settle "$stage" "$code"
}

prepare_job() {
    notes="${TEXTMILL_NOTES:-$SLURM_SUBMIT_DIR}/.textmill-job-$SLURM_JOB_ID"
    rm -f "$notes.stopped" "$notes.failed"
    # Since SLURM 22.05 srun does not take this over from the job by itself.
    export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
}

# End the batch script as the exit code of its stage demands.
settle() {
    local stage=$1 code=$2 starts=${SLURM_RESTART_COUNT:-0} lost=0
    local restarts=${TEXTMILL_RESTARTS:-0} requeues=${TEXTMILL_REQUEUES:-100}
    rm -f "$notes.stopped" "$notes.failed"
    # A line is the count of the start that lost a rank; twice the same is one loss.
    if [[ -e $notes.lost ]]; then
        lost=$(sort -u "$notes.lost" | grep -vcx "$starts" || true)
    fi
    # 138 and 143: told to stop (USR1, TERM) before the stage could take care of it.
    if ((code == 75 || code == 138 || code == 143)); then
        if ((starts - lost < requeues)); then
            queue_again "$stage has stopped on request and goes on later"
        fi
        echo "textmill: $stage has stopped on request; its job has queued itself again" \
            "$((starts - lost)) times, which is the limit: submit it anew to go on" >&2
        code=75
    elif ((code == 5 || code > 128)); then
        if ((lost < restarts)); then
            echo "$starts" >>"$notes.lost"
            queue_again "$stage has lost a rank (exit code $code):\
 restart $((lost + 1)) of $restarts"
        fi
        echo "textmill: $stage has lost a rank (exit code $code) after $lost restarts of" \
            "$restarts (launch.restarts)" >&2
    fi
    rm -f "$notes.lost"
    exit "$code"
}

queue_again() {
    echo "textmill: $1; job $SLURM_JOB_ID queues itself again"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
