cwlVersion: v1.2
class: CommandLineTool
doc: One shard of a folder of images, as a feature file.
baseCommand: [umedfeat, extract, --progress, none, --shard-out, shard.h5, --id-key, site.key]
requirements:
  InitialWorkDirRequirement: # a copy: engines stage links, and a key behind a link is refused
    listing:
      - {entry: $(inputs.key), entryname: site.key, writable: true}
  EnvVarRequirement:
    envDef:
      UMEDFEAT_CORES: "0$(runtime.cores)" # the digit makes a text of the number, without a JavaScript engine
  ResourceRequirement:
    coresMin: 1
    ramMin: 4096
inputs:
  images: {type: Directory, inputBinding: {prefix: --input}}
  key: File
  shard: {type: string, inputBinding: {prefix: --shard}}
  encoder: {type: string, default: umedpt, inputBinding: {prefix: --encoder}}
  weights: {type: "File?", inputBinding: {prefix: --weights}}
  options: {type: "string[]?", inputBinding: {position: 1}}
outputs:
  features: {type: File, outputBinding: {glob: shard.h5}}
