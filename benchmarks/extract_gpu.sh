#!/bin/sh
# Every figure that a GPU decides, in about ten minutes:
#
#     sh benchmarks/extract_gpu.sh encoder-1.0.4.pt.zip CMU-1-Small-Region.svs > gpu.md
#     DEVICE=cpu sh benchmarks/extract_gpu.sh …      rehearses every command where there is no GPU; the figures mean nothing
#
# 1. would it run here; 2. the encoder alone, by size, batch, precision and way; 3. whole commands on slides and volumes:
# how busy the device was, and what a run waited for; 4. one radiograph from a cold start.
# The second argument is any real slide, whose tissue the drawn slides show. Without a GPU it ends at once.
set -e
weights=$(realpath -e "${1:?a Swin V2 weights file}")
tissue=$(realpath -e "${2:?a slide}")
cd "$(dirname "$0")/.."
if [ "${DEVICE:-cuda}" = cpu ]; then
    size="--device cpu --sizes 64 --batches 2 --precisions fp32 --rounds 1" start="--device cpu --rounds 1"
else
    python -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "no GPU: nothing to measure")'
    size="--batches 1,32,256 --rounds 3" start="--device auto --rounds 3"
fi
echo "## Machine"
python -m umedfeat doctor --encoder umedpt --weights "$weights" || true
echo "## Encoder"
# shellcheck disable=SC2086 # options, each a word of its own
python benchmarks/encoder_gpu.py --weights "$weights" $size
echo "## Whole commands"
python benchmarks/pipeline.py --tissue "$tissue" --weights "$weights" --encoder umedpt --only slides
python benchmarks/pipeline.py --tissue "$tissue" --weights "$weights" --encoder umedpt --only volumes
echo "## One radiograph"
# shellcheck disable=SC2086
python benchmarks/cold_start.py --encoder umedpt --weights "$weights" $start
