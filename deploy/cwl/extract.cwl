cwlVersion: v1.2
class: Workflow
doc: A folder of images into one feature file, a step for each shard.
requirements:
  ScatterFeatureRequirement: {}
inputs:
  images: Directory
  key: File
  shards: {type: "string[]", doc: "[1/4, 2/4, 3/4, 4/4]"}
  encoder: {type: string, default: umedpt}
  weights: File?
  options: string[]?
outputs:
  features: {type: File, outputSource: merge/features}
steps:
  shard:
    run: shard.cwl
    scatter: shard
    in: {images: images, key: key, shard: shards, encoder: encoder, weights: weights, options: options}
    out: [features]
  merge:
    run: merge.cwl
    in: {shards: shard/features}
    out: [features]
