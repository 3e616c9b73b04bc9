#!/bin/bash
# Embed on a SLURM cluster: an array of shards, then the merge when all of them have ended well.
#   INPUT=/data/slides OUT=/results/feats.h5 ID_KEY=~/site.key SHARDS=16 deploy/slurm/submit.sh [more options of extract]
set -euo pipefail
: "${INPUT:?a folder, file or manifest that every node sees}" "${OUT:?the feature file, on a disk that every node sees}"
: "${ID_KEY:?the same key for all: umedfeat key new FILE}" "${SHARDS:?how many parts}"
export INPUT OUT ID_KEY SHARDS ALLOW_FAILED="${ALLOW_FAILED:-0}"
here=$(cd "$(dirname "$0")" && pwd)
array=$(sbatch --parsable --array="1-$SHARDS" "$here/array.sbatch" "$@")
sbatch --parsable --dependency="afterok:$array" "$here/merge.sbatch"
