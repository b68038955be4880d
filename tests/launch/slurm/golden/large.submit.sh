#!/usr/bin/env bash
# Queue the stages of english, each after the success of the one before; written by `textmill run`.
# Prints a line `STAGE JOB` for each. If one is refused, those before it are cancelled.
set -euo pipefail
cd /home/ann/textmill
folder=/home/ann/textmill/runs/english/slurm
mkdir -p /home/ann/textmill/runs/english/logs/slurm

# Options of another job, or defaults of the user that would go before what the files ask for.
for name in "${!SLURM_@}" "${!SBATCH_@}"; do
    case $name in
    SLURM_CONF) ;;
    *) unset "$name" ;;
    esac
done

ids=()
noted=''
is_whole=0
undo() {
    if [[ $is_whole -eq 0 && ${#ids[@]} -gt 0 ]]; then
        scancel "${ids[@]}" && rm -f "$folder/jobs.json"
    fi
}
trap undo EXIT

for stage in data_prep pretrain finetune evaluate; do
    after=()
    if [[ ${#ids[@]} -gt 0 ]]; then
        after=(--dependency="afterok:${ids[-1]}" --kill-on-invalid-dep=yes)
    fi
    job=$(sbatch --parsable "${after[@]}" "$folder/$stage.sbatch")
    ids+=("${job%%;*}") # a federated cluster adds its name
    noted+="${noted:+, }\"$stage\": \"${ids[-1]}\""
    printf '{%s}\n' "$noted" >"$folder/jobs.json.new"
    mv "$folder/jobs.json.new" "$folder/jobs.json"
    echo "$stage ${ids[-1]}"
done
is_whole=1
