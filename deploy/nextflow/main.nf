// nextflow run deploy/nextflow/main.nf --input /data/slides --key site.key --shards 16 --out results
nextflow.enable.dsl = 2

params.input = null
params.key = null
params.shards = 4
params.encoder = 'umedpt'
params.options = ''
params.out = 'results'

process SHARD {
    label 'gpu'
    cpus 8
    memory '32 GB'
    errorStrategy 'retry'
    maxRetries 2

    input:
    tuple val(number), val(total), path(images), path(key)

    output:
    path "${number}-of-${total}.h5"

    script:
    """
    UMEDFEAT_CORES=${task.cpus} umedfeat extract --input ${images} --id-key "\$(readlink -f ${key})" --encoder ${params.encoder} \\
        --shard ${number}/${total} --shard-out ${number}-of-${total}.h5 --progress none ${params.options}
    """
}

process MERGE {
    publishDir params.out, mode: 'copy'
    cpus 2
    memory '8 GB'

    input:
    path shards

    output:
    path 'feats.h5'

    script:
    """
    umedfeat merge ${shards} --out feats.h5
    """
}

workflow {
    total = params.shards as int
    images = file(params.input, checkIfExists: true)
    key = file(params.key, checkIfExists: true)
    numbers = Channel.of(1..total).map { number -> tuple(number, total, images, key) }
    MERGE(SHARD(numbers).collect())
}
