version 1.0

workflow extract {
  input {
    Array[File] images
    File key
    Int shards = 4
    String encoder = "umedpt"
    String options = ""
    String container = "umedfeat:latest"
  }
  scatter (number in range(shards)) {
    call shard {
      input:
        images = images,
        key = key,
        number = number + 1,
        total = shards,
        encoder = encoder,
        options = options,
        container = container
    }
  }
  call merge { input: parts = shard.features, container = container }
  output {
    File features = merge.features
  }
}

# Every shard gets the whole list: which part is its own is decided by ids and sizes. Localise by link where you can.
task shard {
  input {
    Array[File] images
    File key
    Int number
    Int total
    String encoder
    String options
    String container
  }
  command <<<
    set -eu
    mkdir images # of links: items are called by the files' own names, wherever an engine has put them
    while read -r image; do ln -s "$image" images/; done < ~{write_lines(images)}
    umedfeat extract --input images --id-key "$(readlink -f ~{key})" --encoder ~{encoder} --progress none \
      --shard ~{number}/~{total} --shard-out shard.h5 ~{options}
  >>>
  output {
    File features = "shard.h5"
  }
  runtime {
    docker: container
    cpu: 4
    memory: "16 GB"
    maxRetries: 2
  }
}

task merge {
  input {
    Array[File] parts
    String container
  }
  command <<<
    umedfeat merge ~{sep=" " parts} --out feats.h5
  >>>
  output {
    File features = "feats.h5"
  }
  runtime {
    docker: container
    cpu: 2
    memory: "8 GB"
  }
}
