"""Join the files of a study with pandas: accuracy per draw from the predictions, and the estimate of the summary.

python examples/join_results.py probe/
"""

import json
import sys
from pathlib import Path

import pandas as pd

folder = Path(sys.argv[1])
keys = ["encoder", "classifier", "budget", "fraction", "shots", "test_set"]
results = pd.read_csv(folder / "results.csv", keep_default_na=False, na_values={"value": [""]})
items = pd.read_csv(folder / "predictions.csv", keep_default_na=False, dtype={"truth": str})
estimates = pd.DataFrame(json.loads((folder / "summary.json").read_text(encoding="utf-8"))["estimates"])
items["own"] = items.filter(regex="^p_").idxmax(axis=1).str.removeprefix("p_") == items["truth"]
accuracy = results.query("metric == 'accuracy' and subgroup == 'all'")
table = accuracy.merge(items.groupby([*keys, "draw"])["own"].mean(), on=[*keys, "draw"])
means = table.groupby([*keys, "subgroup", "metric"])[["value", "own"]].mean()
joined = means.merge(estimates, on=[*keys, "subgroup", "metric"], suffixes=("_results", "_summary"))
print(joined[["classifier", "budget", "value_results", "own", "value_summary"]].to_string(index=False))
