cwlVersion: v1.2
class: CommandLineTool
doc: All shards as one file; refuses what does not add up.
baseCommand: [umedfeat, merge, --out, feats.h5]
inputs:
  shards: {type: "File[]", inputBinding: {position: 1}}
outputs:
  features: {type: File, outputBinding: {glob: feats.h5}}
