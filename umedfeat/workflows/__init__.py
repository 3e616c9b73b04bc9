"""What a command does, as one function: it computes, writes what belongs to it, and says what was written and where.

::

    studies.py      probe_and_report, compare_and_report, compare_models_and_report, plan_probe
    predictions.py  predict_and_report
    neighbours.py   similar_and_report
    training.py     pretrain_and_report, forecast_training
    exports.py      export: another tool's layout with the tables that it trains from
    merging.py      merge, which replaces nothing unasked
    forecasting.py  forecast: what an extraction would do

The functions behind them compute alone: ``probe`` of arrays, ``predict``, ``similar``, ``pretrain``.
Bars are shown where somebody watches (a terminal, a notebook), unless ``progress=False``.
"""
