# Join the files of a study with R: accuracy per draw from the predictions beside that of results.csv.
# Rscript examples/join_results.R probe/
folder <- commandArgs(trailingOnly = TRUE)[1]
keys <- c("encoder", "classifier", "budget", "fraction", "shots", "draw", "test_set")
results <- read.csv(file.path(folder, "results.csv"), na.strings = character(0))
items <- read.csv(file.path(folder, "predictions.csv"), na.strings = character(0), check.names = FALSE)
names <- grep("^p_", colnames(items), value = TRUE)
items$own <- sub("^p_", "", names[max.col(items[names], "first")]) == as.character(items$truth)
own <- aggregate(items["own"], items[keys], mean)
table <- merge(results[results$metric == "accuracy" & results$subgroup == "all", ], own, by = keys)
print(aggregate(table[c("value", "own")], table[c("classifier", "budget")], mean), digits = 6)
